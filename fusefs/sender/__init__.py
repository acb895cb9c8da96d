"""Copies into and out of a mount that may be interrupted at any time, and go on.

    copying      the whole copy: which file goes where, what is skipped, what failed
    transfer     one large file: read, offer, send what is missing, end
    source       the file that is read, block by block, with its digests
    receivers    where it goes: a fusefs that is asked, or any directory that is compared
    staging      the name of a file until it is complete, and what a source is known by
    attributes   mode, owner, times, extended attributes
    asking       questions to a daemon, and whether it is there
    outcome      what was done

Called by the command line. Data goes through the mount like anybody's; of the daemon it is only
asked what need not be sent. Knows nothing of how a store is made.
"""

"""fusefs: a filesystem that continues interrupted copies and forgets nothing too early.

The rooms, top to bottom; imports go down only, and rooms in one row do not know each other::

    cli                     parse, call, print, exit codes; one file per verb
    sender | agent          copies into and out of a mount that can be interrupted at any time
                            | what a mount has to do with other places, in a process beside it
    daemon                  assemble, supervise, timers, drain, sd_notify, control socket
    fuse                    the face that the kernel sees
    fsck                    check and repair
    transfers | sync        files that move from place to place | the store in its remotes
    uploads                 files that a sender has announced: what is missing, and their end
    trash | files           policies: where removed names go | content of files
    tree                    names, inodes, attributes, extended attributes, directories
    store | remotes         log, segments, blocks, index, recovery | places that keep objects
    model                   inode, extent, block, entry: pure values and their codecs
    config, base, errors    options; clock, durable files, failpoints; the error tree
"""

__version__ = "0.1.0"

"""Names, inodes, attributes, extended attributes, directories: everything but contents.

    tree        the operations, each one batch; what a removed name becomes is decided above
    inodes      the inodes in use, one object each
    acl         POSIX ACLs in their extended-attribute form

The kernel checks permissions (``default_permissions``); what is refused here is refused for its
own sake. Called by trash, files and the faces. Knows nothing of FUSE.
"""

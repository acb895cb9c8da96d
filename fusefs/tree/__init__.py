"""Names, inodes, attributes, extended attributes, directories: everything but contents.

    tree        the operations on names and attributes, each one act
    places      where an inode is, found the slow way
    xattrs      extended attributes, and the ACLs among them
    removal     what becomes of an object that lost a name: the seam; it is decided above
    act         a batch that knows the inodes which it changes
    inodes      the inodes in use, one object each
    acl         POSIX ACLs in their extended-attribute form

The kernel checks permissions (``default_permissions``); what is refused here is refused for its
own sake. Called by trash, files and the faces. Knows nothing of FUSE.
"""

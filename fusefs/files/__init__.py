"""Contents of files: bytes wait in memory, become blocks, and come back verified.

    waiting     bytes written but not yet stored, of one file
    ahead       whole blocks of that, hashed on another core while the writer goes on
    extents     the map from file ranges to blocks, and its changes
    partials    which files are half-written, and how far they are good
    attributes  the same, as extended attributes
    opened      one open file, and its handles
    files       open files: read, write, truncate, flush, and the limits for all together
    reaper      frees what nobody needs any more

Called by the faces. Knows nothing of the trash or of FUSE.
"""

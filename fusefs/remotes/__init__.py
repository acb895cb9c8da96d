"""Remotes: places outside this machine's store where copies of objects are kept.

::

    api         the seam: what a remote can do, what is durable then, what may be tried again
    names       which names objects may have
    address     URL -> what to connect to
    secrets     from a file, the environment or systemd; shown to nobody
    memory      a remote in this process: what the contract is written against
    directory   a local directory, such as a mounted disk
    sftp        by SFTP; sftp_pool: connections for it; sftp_session: one of them
    objects     S3, GCS, Azure Blob, B2 and WebDAV; object_store: one of them, through OpenDAL;
                services: how each is spelt;
                answers: what they say, as errors of ours
    files       the seam for files under names of their own, for transfers; local_files,
                object_files, sftp_files: what has it; file_places: from a place to it;
                throttled_files: within its bandwidth
    multipart   what cut-off writers of large objects leave in an S3 bucket
    around      a remote around a remote, files around files; so are:
    retry, throttle, room, verify, fault
                wrappers that try again, limit bytes a second, leave some room, do not believe, fail
                as planned
    encrypted   one more: a remote around one that sees neither contents nor names
    sealed, veil, keyring
                its objects, byte by byte; their names; its key slots
    encrypted_files, veiled_paths
                files there, and their paths
    contract    what every remote must keep, as checks that also users' own buckets can be put to

Called by `sync`, `transfers` and the processes above. A remote knows names and bytes; it knows
nothing of stores, segments or transfers.

What must stay true: an object is there whole or not at all; a name never changes its content; no
secret reaches argv, a log or an error message; calls block, so they are made in threads of a
process that is not the mount's.
"""

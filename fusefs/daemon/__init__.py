"""The daemon: from a store and a mountpoint to a mount that serves, reports, and stops cleanly.

Called by `cli` only. Knows how to find, ask, start and stop; never parses argv and never prints::

    mounttable      what the kernel has mounted, read without touching any mount
    mountpoint      may we mount there; clear a dead mount; unmount
    writer          who holds the lock of a store
    target          whatever path a user has at hand -> store, mountpoint, path inside
    launch          start in the background and wait until it answers or has failed
    daemon          one mount from READY to the last checkpoint
    notify          what systemd is told
    logs            where log lines go
    wire            the socket in STORE: where it is and what is said on it
    control         its server, in the daemon
    following       events on their way to its clients
    client          its other end
    surface         the verbs on a store, whether a daemon has it or not
    opened          ... if not, in this process
    filesystem      assembles store, tree, files and trash
    pace            how long background work rests, so that requests come first
    scrubbing       when blocks are read to verify them, and the records of bad ones
    evicting        dropping what has enough copies elsewhere
    pins            where files lie, and what is to stay here
    users           which files need a block
    orders          what the agent is to do for us
    fetching        content that is in remotes only, for readers; healing of bad blocks
    syncing         when what goes to which remote
    agent_process   the process that does what waits on a network, kept alive
    collecting      when space is given back, and at what pace
    verbs           what can be asked by name
    trash_desk      ... of the trash
    scrub_desk      ... of the scrub
    upload_desk     ... of uploads
    sync_desk       ... of remotes and the sync
    fetch_desk      ... of what is in remotes only
    metrics         the numbers of a status in the format of Prometheus
    metrics_server  ... for who asks over HTTP
    service         what the verbs answer, from a running filesystem

What must stay true: a dead daemon never looks like an empty directory, nothing here waits on a
mount without a deadline, and the socket exists only while its owner holds the lock of the store.
"""

"""The agent: the network side, a process of its own beside the daemon of a mount.

It can neither starve nor kill the filesystem. It is a client of the daemon, on a socket of its own:
it asks what is to be sent, fetched or moved, does it, and says what came of it. The daemon starts
it and starts it again when it dies; whatever it did not report is asked for again.

::

    agent     the process: its priority, its tasks, its end
    link      questions to the daemon
    pace      how long the sync rests, so that users come first
    persist   tasks that go on whatever happens
    places    remotes, connected as their rows say
    fetching  what readers wait for comes from remotes; copies are proved
    syncing   what the store has goes to its remotes
    moving    files of transfers: orders, and what came of them
    surveying what lies at both ends before one is recorded
    carrying  one file, so that it can be cut off anywhere

What must stay true: it holds nothing that would be missed. All that must be remembered is in the
store, and what is sent or fetched twice is the same.
"""

"""Sync: what of a store goes to a remote, in which order, and how it becomes a store again.

::

    layout       the objects of a remote, byte by byte: segments, index, checkpoints
    registry     the rows of remotes
    copies       rows that say which segment is in which remote
    places       from a row to a remote that can be asked
    reading      rows and batches of a store that somebody writes to
    lanes        several objects on their way at one time
    api          what that needs of who writes to the store
    publish      a cut of the log becomes a checkpoint, which others can restore
    intents      what is about to be put into a remote, written down before
    unpublished  whether anything was done since
    synced       of one file, which remotes have it
    verify       whether all that a checkpoint needs is there, and what is bad put right
    expire       what of a remote nothing needs any more: plan, then apply
    margins      how long that is kept all the same: every number with its reason
    restore      a checkpoint becomes a store
    evict        which local segments may be dropped, and the proof of their copies

A remote holds segments as they were sealed, the index (a copy of it, and the batches since), and
checkpoints, which name the others. Everything is named by its content and written once; the
checkpoint comes last, under the next number, so a remote is consistent at every instant and two
writers of one remote meet at that number.

Called by `daemon` (rows, plans) and `agent` (what waits for a network).
"""

"""Sync: what of a store goes to a remote, in which order, and how it becomes a store again.

::

    layout      the objects of a remote, byte by byte: segments, index, checkpoints
    publish     a cut of the log becomes a checkpoint, which others can restore
    restore     a checkpoint becomes a store
    expire      what of a remote nothing needs any more: plan, then apply
    copies      rows that say which segment is in which remote
    evict       which local segments may be dropped, and the proof of their copies

A remote holds segments as they were sealed, the index (a copy of it, and the batches since), and
checkpoints, which name the others. Everything is named by its content and written once; the
checkpoint comes last, under the next number, so a remote is consistent at every instant and two
writers of one remote meet at that number.

Called by `daemon` (rows, plans) and `agent` (what waits for a network).
"""

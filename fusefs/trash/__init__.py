"""The trash: what a removed name becomes, the way back, and the end.

    trash       the `Removal` that the tree asks: what goes there, and what leaves it by hand
    mirrors     the directories of ``.trash``: ``<UTC day and hour>/<original path>``
    removers    who removes, and what of it is one batch
    ledger      the books: entries, the order of purge, batches, jobs, history
    policy      what is to be kept, and for how long: values and their texts
    retention   which policy holds where; deadlines, made anew when it changes
    steady      the time by which the trash ages
    restore     back to the old path, or to another
    purge       jobs that destroy entries, in slices
    expiry      what the trash purges by itself
    globs       patterns of paths

The daemon drives it (``daemon.purging``) and answers for it (``daemon.trash_desk``). It knows
neither open files nor the kernel: whoever does hands in what it has to ask.
"""

"""Checking a store, mounted or not, and repairing one that is not.

    check       the whole check and its report
    problem     what is wrong, and by which path to name it
    view        the rows of a store: its last checkpoint, and what the log says since
    tables      rows as values; the ones that do not decode
    names       names, directories, link counts
    partials    what half-written files promise
    trash       entries of the trash, and its books: queue, batches, jobs, history
    transfers   what each is made of, its sums, its record
    contents    extents, references of blocks, link targets, extended attributes
    copies      in remotes that the store does not know
    books       the index's own position, counters and sums
    segments    do the log's records and the blocks' places verify
    selection   which blocks are read, and when a check ends early
    healing     bad blocks that are whole in a remote
    repair      what can be put right, as a plan and as acts of the log
    census      how many rows there are, their highest numbers, their sums

Called by the CLI. All but `healing` and `repair` read only. A mounted store is checked as it was
when the check began: the index snapshot is pinned, and of a log that grows meanwhile only what was
there is looked at. Each damage is a `Problem`, and the check goes on behind it; only an index that
cannot be read ends it.
"""

"""Checking a store, mounted or not, without changing it.

    check       the whole check and its report
    view        the rows of a store: its last checkpoint, and what the log says since
    structure   do the rows fit together
    segments    do the log's records and the blocks' places verify

Called by the CLI. Reads only; a mounted store is checked as it was when the check began.
"""

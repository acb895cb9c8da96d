"""The store: an append-only log of segments is the truth, an LMDB index catches up with it.

    identity    STORE/fusefs.json (format, features, options) and the lock that admits one writer
    cipher      contents of an encrypted store: their names, and how they are sealed
    keyring     which passphrases and key files open that
    format      segments and records, byte by byte, and how a reader scans them
    log         appends records, seals segments, makes them durable
    index       ordered rows in LMDB, one open write transaction, batches
    hints       BLAKE3 prefix -> block number, to find duplicates; may be thrown away at any time
    presence    what is only in remotes, and what of it was fetched
    blocks      written once each, found by content, read back verified
    counters    the numbers that are given out
    recovery    replay of the log into the index after any stop
    snapshot    the copy of the index that stands for deleted segments, and its sum
    salvage     reads a segment past its damage
    derived     what follows from the rows of an index, and its books made of that
    rebuild     makes the index anew from snapshot and log
    usage       how much of each segment is needed
    margins     when space is given back, how much, at what pace: every number with its reason
    plan        which segments a collection empties
    collector   empties and deletes them
    probe       whether a damaged index can be read at all
    space       what may still be written before the disk's reserve
    reading     verified reads, and what is kept in memory of them
    scrubber    reads blocks only to verify them
    store       the one object that the rooms above use

Order of writes: block record, batch record, fdatasync, index commit. So a batch is visible only
with its blocks, and the index never knows more than the log.
"""

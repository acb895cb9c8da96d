"""The keys of the index: one ordered space of bytes, a table being a one-byte prefix.

Numbers in keys are big-endian, so that byte order is number order::

    i ino                   inode                        model.inode
    n parent name           name in a directory          model.dirent
    o parent cookie         the same, in listing order   model.dirent
    d ino                   name of a directory          bytes
    l ino                   target of a symbolic link    bytes
    x ino name              extended attribute           bytes
    e ino offset            extent of a file             model.extent
    b block                 block                        model.block
    c block                 that is known to be bad      model.corruption
    t entry                 entry of the trash           model.entry
    q deadline entry        the same, in order of purge  empty
    g batch                 what was removed in one go   model.batch
    h entry                 entry that left the trash    model.entry
    f time entry            the same, in order of that   empty
    p job                   purge under way              model.job
    r ino                   directory being taken back   why, as text
    w ino                   half-written file            model.partial
    s name                  setting of the trash         trash.{retention,steady}
                            or the scrub                 model.scrub
                            or copies                    model.eviction
    a name                  remote                       model.remote
    k segment remote        copy of a segment there      model.remote
    y id                    transfer, by its UUID        model.transfer
    y id "s"                what was asked for           model.transfer
    y id "f" number         one file of it               model.transfer
    j time id               transfer that has ended      model.transfer
    z ino                   inode to be freed            number of the entry that it was, or empty
    m name                  the index's own books (never logged): position, counters

Keys that grow without bound are numbered in the order of their making: neighbours in time are
neighbours on a page, which keeps a checkpoint small.
"""

from struct import Struct

INODE, NAME, ORDER, DIRECTORY, LINK, XATTR, EXTENT, BLOCK, CORRUPTION = (
    b"i", b"n", b"o", b"d", b"l", b"x", b"e", b"b", b"c",
)  # fmt: skip
ENTRY, QUEUE, BATCH, HISTORY, FINISHED, JOB, REVIVAL, SETTING, PARTIAL, ORPHAN, META = (
    b"t", b"q", b"g", b"h", b"f", b"p", b"r", b"s", b"w", b"z", b"m",
)  # fmt: skip

REMOTE, COPY, TRANSFER, JOURNAL = b"a", b"k", b"y", b"j"

_ONE = Struct(">cQ")
_TWO = Struct(">cQQ")
_pack_one, _pack_two = _ONE.pack, _TWO.pack


def inode(ino: int) -> bytes:
    return _pack_one(INODE, ino)


def name(parent: int, text: bytes) -> bytes:
    return _pack_one(NAME, parent) + text


def order(parent: int, cookie: int) -> bytes:
    return _pack_two(ORDER, parent, cookie)


def directory(ino: int) -> bytes:
    return _pack_one(DIRECTORY, ino)


def link(ino: int) -> bytes:
    return _pack_one(LINK, ino)


def xattr(ino: int, text: bytes) -> bytes:
    return _pack_one(XATTR, ino) + text


def extent(ino: int, offset: int) -> bytes:
    return _pack_two(EXTENT, ino, offset)


def block(number: int) -> bytes:
    return _pack_one(BLOCK, number)


def corruption(block: int) -> bytes:
    return _pack_one(CORRUPTION, block)


def entry(number: int) -> bytes:
    return _pack_one(ENTRY, number)


def queue(deadline_ns: int, number: int) -> bytes:
    return _pack_two(QUEUE, deadline_ns, number)


def batch(number: int) -> bytes:
    return _pack_one(BATCH, number)


def history(number: int) -> bytes:
    return _pack_one(HISTORY, number)


def finished(time_ns: int, number: int) -> bytes:
    return _pack_two(FINISHED, time_ns, number)


def job(number: int) -> bytes:
    return _pack_one(JOB, number)


def revival(ino: int) -> bytes:
    return _pack_one(REVIVAL, ino)


def partial(ino: int) -> bytes:
    return _pack_one(PARTIAL, ino)


def setting(name: str) -> bytes:
    return SETTING + name.encode()


#: The settings that users make; others are books of what the store does by itself.
TRASH_POLICY, COPIES_WANTED = setting("policy"), setting("copies")


def remote(name: str) -> bytes:
    return REMOTE + name.encode()


def copy(segment: int, remote: int) -> bytes:
    return _pack_two(COPY, segment, remote)


def transfer(id: bytes) -> bytes:
    return TRANSFER + id


def specification(id: bytes) -> bytes:
    return TRANSFER + id + b"s"


def transfer_files(id: bytes) -> bytes:
    """What the keys of all files of a transfer begin with."""
    return TRANSFER + id + b"f"


def transfer_file(id: bytes, number: int) -> bytes:
    return TRANSFER + id + b"f" + number.to_bytes(4, "big")


def journal(time_ns: int, id: bytes) -> bytes:
    return _pack_one(JOURNAL, time_ns) + id


def orphan(ino: int) -> bytes:
    return _pack_one(ORPHAN, ino)


def number(key: bytes) -> int:
    """The number behind the prefix: of an inode, block, entry; the parent of a name."""
    return int.from_bytes(key[1:9], "big")


def second(key: bytes) -> int:
    """The second number: a cookie, an offset, an entry behind a time."""
    return int.from_bytes(key[9:17], "big")

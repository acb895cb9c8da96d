"""The first request of a session, and more in its reply than libfuse knows to ask for.

In FUSE_INIT the kernel offers what it can do, and the reply says what it is to do. libfuse 3.14,
and pyfuse3 with it, cannot say some of it. So libfuse is given one end of a socket in place of the
device, reads FUSE_INIT there and writes its reply there; with the flags below added the reply
goes to the device, which libfuse has back from then on. Anything unexpected passes unchanged.

`ADDED`, of which those are taken that the kernel offers (counts of requests as measured):

HANDLE_KILLPRIV_V2   Else the kernel asks for security.capability before every write(2); now once
                     after each time that attributes came. What it leaves to the server: clearing
                     set-ID bits on write, truncate and chown.
DONT_MASK            The umask comes with the request: a default ACL takes its place.
CACHE_SYMLINKS       READLINK once, since the target of a symbolic link never changes.
EXPLICIT_INVAL_DATA  In place of AUTO_INVAL_DATA, with which the kernel throws a file's pages away
                     when it hears of a new mtime, hence after each write(2) of its own. Whoever
                     changes content behind the kernel's back tells it (`FuseMount.forget_file`).

Layout (linux/fuse.h, native byte order):

    request   len:u32 opcode:u32 unique:u64 nodeid:u64 uid,gid,pid:u32 padding:u32     40 bytes
              major:u32 minor:u32 max_readahead:u32 flags:u32 ...
    reply     len:u32 error:i32 unique:u64                                             16 bytes
              major:u32 minor:u32 max_readahead:u32 flags:u32 ...
"""

import os
import select
import socket
import struct
from contextlib import suppress

AUTO_INVAL_DATA = 1 << 12
DONT_MASK = 1 << 6
CACHE_SYMLINKS = 1 << 23
EXPLICIT_INVAL_DATA = 1 << 25
HANDLE_KILLPRIV_V2 = 1 << 28
ADDED = HANDLE_KILLPRIV_V2 | DONT_MASK | CACHE_SYMLINKS | EXPLICIT_INVAL_DATA

_INIT = 26
_MAJOR = 7
_REQUEST = struct.Struct("=IIQ24x4I")
_REPLY = struct.Struct("=IiQ4I")
_FLAGS_AT = _REPLY.size - 4
#: The kernel wants room for the largest request that there may be at this time.
_ROOM = 64 << 10


def extended(request: bytes, reply: bytes) -> bytes:
    """libfuse's reply to FUSE_INIT with our flags, or as it is if these are not what we know."""
    if len(request) < _REQUEST.size or len(reply) < _REPLY.size:
        return reply
    _, opcode, asked, major, _, _, offered = _REQUEST.unpack_from(request)
    _, error, answered, agreed, _, _, flags = _REPLY.unpack_from(reply)
    if (opcode, asked, major, agreed, error) != (_INIT, answered, _MAJOR, _MAJOR, 0):
        return reply
    flags |= offered & ADDED
    if flags & EXPLICIT_INVAL_DATA:
        flags &= ~AUTO_INVAL_DATA
    return reply[:_FLAGS_AT] + struct.pack("=I", flags) + reply[_REPLY.size :]


class Relay:
    """Stands between the device and libfuse, which knows it by the number `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def begin(self) -> bool:
        """Have libfuse read the first request from a socket; False if it is not there.

        After True libfuse must read and answer, and then `finish` be called.
        """
        if not select.select([self._descriptor], (), (), 0)[0]:
            return False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._device = os.dup(self._descriptor)
        with theirs:
            try:
                self._request = os.read(self._device, _ROOM)
            except OSError:  # unmounted meanwhile: libfuse will see it as well
                self._close()
                return False
            self._socket.send(self._request)
            os.dup2(theirs.fileno(), self._descriptor, inheritable=False)
        return True

    def finish(self) -> None:
        """Send the reply on, if there is one yet, and give libfuse its device back."""
        with suppress(OSError):  # no reply yet, or, as in libfuse, the mount is gone
            reply = self._socket.recv(_ROOM, socket.MSG_DONTWAIT)
            os.write(self._device, extended(self._request, reply))
        os.dup2(self._device, self._descriptor, inheritable=False)
        self._close()

    def _close(self) -> None:
        self._socket.close()
        os.close(self._device)

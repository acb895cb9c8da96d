"""A TCP proxy on loopback that counts bytes and does to connections what networks do.

It is threads and blocking sockets, so that it serves tests of any kind, trio or not.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PIECE_BYTES = 16 << 10


class Proxy:
    """Passes on what arrives at `port` to `target`, a port of this machine.

    `up` and `down`: bytes passed on to and from the target; `connections`: taken so far; `cuts`:
    connections that were cut. What is sent while stalled is held back, not lost.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.up = self.down = self.connections = self.cuts = 0
        self._rate = 0.0
        self._cut_at: int | None = None
        self._moving = threading.Event()
        self._moving.set()
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._is_open = True
        self._refuses = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset all connections that there are."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
            self.cuts += len(pairs)
        for pair in pairs:
            _reset(*pair)

    def cut_after(self, count: int) -> None:
        """Reset all connections once, when so many more bytes went up."""
        self._cut_at = self.up + count

    def refuse(self) -> None:
        """Cut everything and let nobody in, until `allow`."""
        self._refuses = True
        self.cut()

    def allow(self) -> None:
        self._refuses = False

    def stall(self) -> None:
        """Keep all connections open and pass on nothing, until `flow`."""
        self._moving.clear()

    def flow(self) -> None:
        self._moving.set()

    def throttle(self, bytes_per_s: float) -> None:
        """Pass on so many bytes a second, each connection and direction; 0: without limit."""
        self._rate = bytes_per_s

    def close(self) -> None:
        self._is_open = False
        # Closing alone would not wake up the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.flow()
        self.cut()

    def _accept(self) -> None:
        while self._is_open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._refuses:
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            pair = client, server
            with self._lock:
                self._pairs.add(pair)
            for arguments in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=(pair, *arguments), daemon=True).start()

    def _pass(
        self,
        pair: tuple[socket.socket, socket.socket],
        source: socket.socket,
        sink: socket.socket,
        is_up: bool,
    ) -> None:
        try:
            while piece := source.recv(_PIECE_BYTES):
                self._moving.wait()
                sink.sendall(piece)
                self._count(len(piece), is_up)
                if self._rate:
                    time.sleep(len(piece) / self._rate)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            with self._lock:
                self._pairs.discard(pair)
            _reset(*pair)

    def _count(self, size: int, is_up: bool) -> None:
        with self._lock:
            if not is_up:
                self.down += size
                return
            self.up += size
            if self._cut_at is None or self.up < self._cut_at:
                return
            self._cut_at = None
        self.cut()


def _reset(*sockets: socket.socket) -> None:
    """Close connections so that both ends see an error, not an end."""
    for each in sockets:
        try:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            # Wakes up a thread that reads; the close alone does not.
            each.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        each.close()


@contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    """A proxy to the port `target` of this machine."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()

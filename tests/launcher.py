"""The program, and some of the tests, forked from a process that has loaded all modules.

A process of its own, with its own end, its own daemon, and all that a kill -9 takes from it; but
0.02 s instead of 0.1 to 0.6 s of imports, of which a run of the tests has thousands. What the
imports themselves do is for those tests that start an interpreter: tests/system/test_daemon.py has
one for each verb, and with FUSEFS_FORKS=0 all tests do.

::

    tests --- message: arguments, environment; descriptors: 0, 1, 2, pipe ---> this --- fork --->
    tests <-------------------- pipe: process id, later exit code ------------- this

It ends when the tests have ended.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import fusefs

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "fusefs.cli.app"
#: Of a message.
_MOST_BYTES = 1 << 18
#: OpenDAL starts threads that a fork does not have.
_NOT_FORKED = ("fusefs.remotes.object_store", "fusefs.__main__")


@dataclass(frozen=True)
class Call:
    """What to run, where, as whom: `user` 0 is who runs the tests.

    `program` is a module with a function `run(arguments)` that returns the exit code.
    """

    arguments: Sequence[str]
    environ: Mapping[str, str]
    cwd: str
    user: int = 0
    program: str = PROGRAM


def run(call: Call, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with nothing to read. Raises TimeoutExpired, and has killed it then."""
    ours, theirs = zip(os.pipe(), os.pipe(), os.pipe(), strict=True)
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        socket.send_fds(
            _server(),
            [json.dumps({**vars(call), "environ": dict(call.environ)}).encode()],
            [null, *theirs],
        )
        for descriptor in (null, *theirs):
            os.close(descriptor)
        pid = int(_read_line(ours[-1]))
        out, err, code = _read_all(ours, time.monotonic() + timeout_s)
    finally:
        for descriptor in ours:
            os.close(descriptor)
    if not code:
        os.kill(pid, signal.SIGKILL)
        raise subprocess.TimeoutExpired(list(call.arguments), timeout_s, out, err)
    return subprocess.CompletedProcess(
        [call.program, *call.arguments], int(code), _text(out), _text(err)
    )


def _read_line(pipe: int) -> bytes:
    """The first one, and nothing behind it."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(pipe, 1)):
        line += byte
    return line


def _read_all(pipes: Sequence[int], deadline: float) -> list[bytes]:
    """What comes out of each until all are closed, or until the deadline."""
    found = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as watched:
        for pipe in pipes:
            watched.register(pipe, selectors.EVENT_READ)
        while watched.get_map() and (left_s := deadline - time.monotonic()) > 0:
            for key, _ in watched.select(left_s):
                data = os.read(key.fd, 1 << 16)
                found[key.fd] += data
                if not data:
                    watched.unregister(key.fd)
    return list(found.values())


def _text(data: bytes) -> str:
    return io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape").read()


@cache
def _server() -> socket.socket:
    """The end of ours."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.launcher"],
        stdin=theirs, stdout=subprocess.DEVNULL, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def main() -> None:
    """The process that all others are forked from, and these."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the tests
    for module in pkgutil.walk_packages(fusefs.__path__, "fusefs."):
        if module.name not in _NOT_FORKED:
            importlib.import_module(module.name)
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module(PROGRAM).run(["version"])  # and what the parser does late
    gc.collect()
    gc.freeze()  # what is there already costs the forks no collection
    if (received := _serve()) is None:
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    call, standard = received
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(call.environ)
    os.chdir(call.cwd)
    if call.user:
        os.setgroups([])
        os.setresgid(*[call.user] * 3)
        os.setresuid(*[call.user] * 3)
    sys.argv = [call.program, *call.arguments]
    code = importlib.import_module(call.program).run(call.arguments)
    for thread in threading.enumerate():  # the end of an interpreter, but for its last 0.05 s
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve() -> tuple[Call, list[int]] | None:
    """Fork for each call. In the forks, the call and their descriptors; None when nobody calls."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    running: dict[int, tuple[int, int]] = {}  # pidfd: pid, pipe to tell
    watched = select.poll()
    watched.register(control, select.POLLIN)
    while True:
        for ready, _ in watched.poll():
            if ready in running:
                watched.unregister(ready)
                os.close(ready)
                pid, reply = running.pop(ready)
                _tell(reply, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(reply)
                continue
            message, descriptors, _, _ = socket.recv_fds(control, _MOST_BYTES, 4)
            if not message:
                control.close()
                return None
            *standard, reply = descriptors
            call = Call(**json.loads(message))
            importlib.import_module(call.program)
            if (pid := os.fork()) == 0:
                control.close()
                for pidfd, (_, pipe) in running.items():
                    os.close(pidfd)
                    os.close(pipe)
                os.close(reply)
                return call, standard
            for descriptor in standard:
                os.close(descriptor)
            _tell(reply, pid)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = (pid, reply)
            watched.register(pidfd, select.POLLIN)


def _tell(reply: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(reply, f"{number}\n".encode())


if __name__ == "__main__":
    main()

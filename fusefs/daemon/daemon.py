"""One mount, from opening its store to the last checkpoint.

::

    open store -> mount -> MNT answers: READY -> serve -> unmounted -> drain -> checkpoint -> end
                                                   ^
                            SIGTERM, SIGINT, stop: sync and unmount, then the same way out

However it is asked to end, the end is the one of an unmount. What must stay true:

- READY is said only when a statvfs(2) through the kernel has come back.
- An error before READY takes the mount away again, nobody has seen it. An error after READY leaves
  it: the kernel answers ENOTCONN there until the next `fusefs mount`, because a dead daemon must
  not look like an empty directory.
- The control socket goes before the lock does.
"""

import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog
import trio

from fusefs.base import memory
from fusefs.base.events import Kind
from fusefs.config.options import MountOptions
from fusefs.daemon.agent_process import AgentProcess
from fusefs.daemon.control import ControlServer
from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.metrics import render
from fusefs.daemon.metrics_server import address_of, listen, serve
from fusefs.daemon.mountpoint import (
    check_device,
    check_mountpoint,
    clear_dead_mount,
    sync,
    unmount,
)
from fusefs.daemon.notify import Notifier
from fusefs.daemon.service import Service
from fusefs.errors import DaemonFailed, FusefsError, MountpointBusy, NotMounted, NotRunning
from fusefs.fuse.mount import FuseMount
from fusefs.store import identity
from fusefs.store.cipher import Cipher

#: What systemd is asked for while a store is opened, which may replay a log.
OPEN_TIMEOUT_S = 600.0
#: For the first answer of a fresh mount.
ANSWER_TIMEOUT_S = 30.0
#: For the kernel to hand over its dirty pages before a stop goes on without them.
SYNC_TIMEOUT_S = 60.0
#: Between an unmount and its end at our side; releases of files arrive meanwhile.
LAST_REQUESTS_S = 5.0
#: systemd is asked for this much more time, this often, while the drain goes on.
EXTEND_BY_S = 60.0
EXTEND_EVERY_S = 10.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = structlog.get_logger(__name__)


def run_daemon(
    store: Path,
    mountpoint: Path,
    options: MountOptions,
    ready: Callable[[], None],
    cipher: Cipher | None = None,
) -> None:
    """Serve `store` on `mountpoint` until it is unmounted or told to stop.

    Both paths absolute and resolved. `cipher`: of an encrypted store. Calls `ready` once, when the
    mount answers. When this returns, everything is durable and the store is unlocked. Raises the
    classes of `fusefs.errors`: before `ready` anything about the store and the mountpoint (nothing
    has changed then), after it what made the daemon give up.
    """
    check_device()
    identity.read(store).require_key(store, cipher)
    check_mountpoint(store, mountpoint)
    os.chdir("/")
    os.umask(0o077)
    _raise_file_limit()
    memory.keep_pages()
    try:
        trio.run(_Daemon(store, mountpoint, options, ready, cipher).run)
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a group that says best what happened: ours before any other."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(reversed(error.exceptions))
        else:
            leaves.append(error)
    return next((error for error in leaves if isinstance(error, FusefsError)), leaves[0])


class _Daemon:
    """The parts of one mount and the tasks that keep them going."""

    def __init__(
        self, store: Path, mountpoint: Path, options: MountOptions, ready: Callable[[], None],
        cipher: Cipher | None,
    ) -> None:  # fmt: skip
        self._cipher = cipher
        self._store = store
        self._mountpoint = mountpoint
        self._options = options
        self._call_ready = ready
        self._is_ready = False
        self._stop_asked = trio.Event()
        self._notifier = Notifier()

    async def run(self) -> None:
        """Open, serve, drain, close."""
        self._listen_for_signals()
        self._notifier.status(f"opening {self._store}")
        self._notifier.extend_timeout(OPEN_TIMEOUT_S)
        started = time.monotonic()
        filesystem = Filesystem.open(self._store, self._options, cipher=self._cipher)
        log.info("store opened", store=self._store, seconds=round(time.monotonic() - started, 3))
        memory.settle()
        try:
            try:
                await self._serve(filesystem)
            finally:
                self._notifier.extend_timeout(EXTEND_BY_S)
                filesystem.close()
        except BaseException as error:
            self._log_failure(error)
            raise
        log.info("store closed, all is durable", store=self._store)
        self._notifier.close()

    def _log_failure(self, error: BaseException) -> None:
        """Before READY the caller is told; afterwards the log is the only place."""
        cause = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if self._is_ready or not isinstance(cause, FusefsError):
            log.error("daemon failed", store=self._store, exc_info=cause)

    def _listen_for_signals(self) -> None:
        """Stop on a signal, until the process ends: a second one must not cut the drain short."""
        token = trio.lowlevel.current_trio_token()

        def ask(_number: int, _frame: object) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._stop_asked.set, idempotent=True)

        for number in STOP_SIGNALS:
            signal.signal(number, ask)

    async def _serve(self, filesystem: Filesystem) -> None:
        if clear_dead_mount(self._store, self._mountpoint):
            log.info("cleared the mount of a daemon that died", mountpoint=self._mountpoint)
            check_mountpoint(self._store, self._mountpoint)
        mount = FuseMount(
            filesystem, os.fspath(self._mountpoint), self._options, os.fspath(self._store)
        )
        filesystem.is_referenced = mount.is_referenced
        listener = await listen(self._options.metrics) if self._options.metrics else None
        metrics = address_of(listener) if listener else None
        service = Service(filesystem, os.fspath(self._mountpoint), metrics)
        filesystem.move_desk.mountpoint = os.fsencode(self._mountpoint)
        filesystem.forget_name = mount.forget_name
        filesystem.forget_file = mount.forget_file
        control = ControlServer(self._store, service, self._stop_asked.set)
        agent = AgentProcess(self._store, lambda: filesystem.needs_agent)
        filesystem.wake_agent = agent.wake
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(control.serve)
                nursery.start_soon(agent.run)
                if listener:
                    nursery.start_soon(serve, listener, lambda: render(service.status()))
                await self._serve_mount(filesystem, mount)
                await self._drain(filesystem)
                await control.finish()
                nursery.cancel_scope.cancel()
        finally:
            control.close()

    async def _serve_mount(self, filesystem: Filesystem, mount: FuseMount) -> None:
        """Mount, and answer the kernel until there is no mount any more."""
        mount.mount()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(filesystem.run_background)
                nursery.start_soon(self._feed_watchdog)
                nursery.start_soon(self._stop_when_asked, mount, filesystem)
                nursery.start_soon(self._announce, filesystem)
                await mount.run()
                nursery.cancel_scope.cancel()
        finally:
            mount.close(unmount=not self._is_ready)
        if not self._is_ready:
            raise DaemonFailed(f"{self._mountpoint} was unmounted before it answered")
        log.info("unmounted", mountpoint=self._mountpoint)
        filesystem.events.publish(Kind.UNMOUNTING, mountpoint=os.fsencode(self._mountpoint))

    async def _announce(self, filesystem: Filesystem) -> None:
        """Say that we are ready, as soon as the mount answers through the kernel."""
        try:
            with trio.fail_after(ANSWER_TIMEOUT_S):
                await trio.to_thread.run_sync(os.statvfs, self._mountpoint, abandon_on_cancel=True)
        except (OSError, trio.TooSlowError) as error:
            raise DaemonFailed(f"{self._mountpoint} does not answer ({error})") from error
        self._is_ready = True
        log.info("mounted", store=self._store, mountpoint=self._mountpoint)
        filesystem.events.publish(
            Kind.MOUNTED, store=os.fsencode(self._store), mountpoint=os.fsencode(self._mountpoint)
        )
        self._notifier.ready(f"{self._store} on {self._mountpoint}")
        self._call_ready()

    async def _feed_watchdog(self) -> None:
        """Show systemd that this loop turns."""
        interval_s = self._notifier.watchdog_interval_s
        while interval_s is not None:
            self._notifier.alive()
            await trio.sleep(interval_s)

    async def _stop_when_asked(self, mount: FuseMount, filesystem: Filesystem) -> None:
        """Turn a request to stop into an unmount; being cancelled means that it worked."""
        await self._stop_asked.wait()
        log.info("stopping", mountpoint=self._mountpoint)
        self._notifier.stopping("unmounting")
        self._notifier.extend_timeout(SYNC_TIMEOUT_S + EXTEND_BY_S)
        with suppress(NotRunning):
            await filesystem.transfers.stop()  # they have files open here
        await self._sync()
        try:
            await trio.to_thread.run_sync(unmount, self._mountpoint)
        except MountpointBusy:
            log.info("still in use, detaching it", mountpoint=self._mountpoint)
            await trio.to_thread.run_sync(_detach, self._mountpoint)
            mount.terminate()
        except NotMounted:
            pass
        except FusefsError as error:
            log.warning("cannot unmount, ending all the same", error=str(error))
            mount.terminate()
        await trio.sleep(LAST_REQUESTS_S)
        mount.terminate()

    async def _sync(self) -> None:
        """Get the kernel's dirty pages while the mount is still whole."""
        try:
            with trio.fail_after(SYNC_TIMEOUT_S):
                await trio.to_thread.run_sync(sync, self._mountpoint, abandon_on_cancel=True)
        except (OSError, trio.TooSlowError) as error:
            log.warning("sync before unmounting failed", error=str(error) or "timed out")

    async def _drain(self, filesystem: Filesystem) -> None:
        """Make durable what is left; systemd waits as long as it takes."""
        self._notifier.stopping("writing what is left to the disk")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_extending)
            await filesystem.flush()
            if self._stop_asked.is_set() and self._options.drain_s:
                await self._drain_remotes(filesystem)
            nursery.cancel_scope.cancel()

    async def _drain_remotes(self, filesystem: Filesystem) -> None:
        """Let the agent bring the last of it away, for as long as the user allows."""
        with trio.move_on_after(self._options.drain_s) as scope:
            await filesystem.syncing.drain(
                lambda left: self._notifier.stopping(f"remotes lack {left >> 20} MiB")
            )
        if scope.cancelled_caught:
            log.warning("not everything is in the remotes; it follows with the next mount")

    async def _keep_extending(self) -> None:
        while True:
            self._notifier.extend_timeout(EXTEND_BY_S)
            self._notifier.alive()
            await trio.sleep(EXTEND_EVERY_S)


def _detach(mountpoint: Path) -> None:
    """Take a mount that is in use out of the tree; what its users wrote up to now is not lost."""
    descriptor = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        unmount(mountpoint, lazy=True)
        sync(descriptor)
    finally:
        os.close(descriptor)

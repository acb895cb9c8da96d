"""fusefs mount: serve a store on a mountpoint."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.unlocking import KeyFile, PassphraseFile
from fusefs.errors import UsageError

if TYPE_CHECKING:
    from fusefs.store.cipher import Cipher


def mount(
    store: Annotated[
        str | None, typer.Argument(metavar="STORE", help="The store.", show_default=False)
    ] = None,
    mountpoint: Annotated[
        str | None, typer.Argument(metavar="MNT", help="An empty directory.", show_default=False)
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("-o", metavar="OPT[,OPT...]", help="Mount options, see above."),
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay; log to stderr. For services.")
    ] = False,
    instance: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Take all from /etc/fusefs/NAME.conf. For services."),
    ] = None,
    key_file: KeyFile = "",
    passphrase_file: PassphraseFile = "",
    as_json: Json = False,
) -> None:
    """Mount a store.

    Returns when MNT answers. A mount that a dead daemon left on MNT is cleared, and what it had
    written is recovered; there is no repair step. The log is STORE/daemon.log.

    \b
    Mount options:
      ro, noatime, nodiratime, allow_other, allow_root, nosuid, nodev, noexec, sync, dirsync
                      as in mount(8) and fuse(8)
      show_trash      list .trash in the root directory
      notrash         what is removed is gone at once
      writeback_cache let the kernel collect small writes
      noacl           no POSIX access control lists
      dirty_limit=MiB memory for data that is not yet written out (64)
      partial_age=AGE half-written files move to the trash when idle for so long (never)
      scrub_rate=SIZE bytes a second that are read just to verify them (4M), 0: none
      scrub_every=AGE from the begin of one pass over all to the next (30d)
      cache_size=SIZE keep no more here than this, if copies in remotes allow it (no limit)
      fetch_timeout=AGE
                      for so long a reader waits for what is in a remote only (60s)
      drain=AGE       when told to stop, wait so long until the remotes have everything (0)
      key_file=FILE, passphrase_file=FILE
                      what opens an encrypted store; credential:NAME is one of systemd's
      metrics=[HOST:]PORT
                      answer Prometheus there; HOST is this machine alone if not given
      transfer_at_once=N, transfer_waiting=N, transfer_moves=N
                      transfers under way (8), waiting (1000), files at one end (4)
      transfer_payload=SIZE, transfer_files=N
                      what one transfer may carry (1T, 20000)
      transfer_stall=AGE, transfer_retries=N, transfer_delete_after=AGE
                      without progress a move is cut (60s), and tried again (5); how long an
                      ended transfer is listed (7d)

    \b
    Example:
      fusefs mount /srv/store ~/mnt
      fusefs mount -o allow_other,noatime /srv/store /data
    """
    texts = options or []
    if instance is not None:
        if store is not None:
            raise UsageError("give STORE and MNT or --instance NAME, not both")
        from fusefs.cli.instance import load

        known = load(instance)
        store, mountpoint, texts = known.store, known.mountpoint, [known.options, *texts]
    if store is None or mountpoint is None:
        raise UsageError("give STORE and MNT: fusefs mount STORE MNT")
    pid = mount_store(
        store, mountpoint, texts, foreground=foreground,
        key_file=key_file, passphrase_file=passphrase_file,
    )  # fmt: skip
    if as_json and not foreground:
        output.as_json({"store": store, "mountpoint": mountpoint, "pid": pid})


def mount_store(
    store: str, mountpoint: str, options: Sequence[str], *, foreground: bool = False,
    key_file: str = "", passphrase_file: str = "", cipher: "Cipher | None" = None,
) -> int:  # fmt: skip
    """Mount, and return the daemon's pid; in the foreground return when it is unmounted.

    `cipher`: of an encrypted store, where it is open already.
    Raises whatever is wrong with store, mountpoint, options or FUSE; nothing has changed then.
    """
    from fusefs.cli.unlocking import cipher_of
    from fusefs.config.options import MountOptions
    from fusefs.daemon.launch import start_in_background
    from fusefs.daemon.target import real_path

    parsed = MountOptions.parse(options)
    source, target = real_path(store), real_path(mountpoint)
    # Here, where there may be a terminal; a daemon has none.
    unlocked = cipher or cipher_of(
        source, key_file or parsed.key_file, passphrase_file or parsed.passphrase_file
    )
    debug = bool(os.environ.get("FUSEFS_DEBUG"))

    def serve(ready: Callable[[], None]) -> None:
        from fusefs.daemon.daemon import run_daemon

        run_daemon(source, target, parsed, ready, unlocked)

    def serve_in_background(ready: Callable[[], None]) -> None:
        from fusefs.daemon.logs import catch_stderr, log_to_file

        def serving() -> None:
            catch_stderr(source)
            ready()

        log_to_file(source, debug=debug)
        serve(serving)

    if not foreground:
        return start_in_background(serve_in_background)
    from fusefs.daemon.logs import log_to_stderr

    log_to_stderr(debug=debug)
    serve(lambda: None)
    return os.getpid()

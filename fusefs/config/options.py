"""The options of a store (kept in STORE/fusefs.json) and of a mount (``-o``)."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fusefs.base.units import parse_duration, parse_size
from fusefs.config import transfers
from fusefs.config.transfers import TransferOptions
from fusefs.errors import UsageError

Compression = Literal["none", "zstd"]

#: Options of mount(8) and fstab that say nothing to a filesystem.
IGNORED = frozenset(
    "defaults rw auto noauto user nouser users owner group nofail _netdev relatime diratime"
    " async".split()
)
#: Options that the kernel's FUSE client or the VFS carries out.
KERNEL = frozenset("allow_other allow_root nosuid suid nodev dev noexec exec sync dirsync".split())

_SCRUB_EVERY_MIN_S = 3600.0
_PORT_MAX = 65535


@dataclass(frozen=True)
class StoreOptions:
    """How a new store keeps its blocks."""

    compression: Compression = "none"


class Address(NamedTuple):
    """Where to listen: an IP address of this machine, and a port; 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class MountOptions:
    """How one mount behaves."""

    read_only: bool = False
    noatime: bool = False
    nodiratime: bool = False
    allow_other: bool = False
    trash: bool = True
    show_trash: bool = False
    writeback_cache: bool = False
    acl: bool = True
    dirty_limit_bytes: int = 64 << 20
    #: Half-written files that are idle for longer move to the trash; None to keep them.
    partial_age_s: float | None = None
    #: Bytes a second of the background scrub; 0: none. A laptop's disk and processor are busy with
    #: it for some 10 ms of each second, and 1 TB takes three days.
    scrub_rate: int = 4 << 20
    #: From the begin of one pass to the begin of the next.
    scrub_every_s: float = 30 * 86400.0
    #: Segments and what was fetched take no more than this, where copies in remotes allow it; 0:
    #: whatever the disk has.
    cache_bytes: int = 0
    #: A reader of what is in a remote only waits for so long; then it gets an error.
    fetch_timeout_s: float = 60.0
    #: When it is told to stop, the daemon waits so long for remotes to have everything.
    drain_s: float = 0.0
    #: Where Prometheus may ask for the counters; None: nowhere.
    metrics: Address | None = None
    transfers: TransferOptions = field(default_factory=TransferOptions)
    #: Files with what opens an encrypted store, see cli.unlocking.
    key_file: str = ""
    passphrase_file: str = ""
    fuse_options: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "MountOptions":
        """Read comma-separated ``-o`` texts.

        Raises UsageError that names the unknown or malformed option.
        """
        values: dict[str, object] = {}
        limits: dict[str, Any] = {}
        kernel = set()
        for option in (o for text in texts for o in text.split(",") if o):
            name, _, value = option.partition("=")
            if name in IGNORED or name.startswith("x-"):
                continue
            if name == "ro":
                values["read_only"] = True
                kernel.add("ro")
            elif name == "noatime":
                values["noatime"] = True
                kernel.add("noatime")
            elif name in ("nodiratime", "show_trash", "writeback_cache"):
                values[name] = True
            elif name in ("noacl", "notrash"):
                values[name.removeprefix("no")] = False
            elif name == "dirty_limit":
                values["dirty_limit_bytes"] = _megabytes(option, value)
            elif name == "partial_age":
                values["partial_age_s"] = _age(option, value)
            elif name == "scrub_rate":
                values["scrub_rate"] = _rate(option, value)
            elif name == "scrub_every":
                values["scrub_every_s"] = _period(option, value)
            elif name == "cache_size":
                values["cache_bytes"] = _cache(option, value)
            elif name == "fetch_timeout":
                values["fetch_timeout_s"] = _wait(option, value)
            elif name == "drain":
                values["drain_s"] = _drain(option, value)
            elif name in ("key_file", "passphrase_file") and value:
                values[name] = value
            elif name == "metrics":
                values["metrics"] = _address(option, value)
            elif name.startswith(transfers.PREFIX):
                limits |= transfers.parse(option, name.removeprefix(transfers.PREFIX), value)
            elif option in KERNEL:
                kernel.add(option)
                if option == "allow_other":
                    values["allow_other"] = True
            else:
                raise UsageError(f"mount option {option!r} is not known; see fusefs mount --help")
        values["transfers"] = TransferOptions(**limits)
        return cls(fuse_options=frozenset(kernel), **values)  # type: ignore[arg-type]


def _megabytes(option: str, value: str) -> int:
    if not value.isdigit() or not 1 <= int(value) <= 65536:
        raise UsageError(f"mount option {option!r}: give whole MiB, such as dirty_limit=64")
    return int(value) << 20


def _age(option: str, value: str) -> float | None:
    if value == "never":
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise UsageError(f"mount option {option!r}: {error}") from error


def _wait(option: str, value: str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise UsageError(f"mount option {option!r}: give 1s to 1h, such as fetch_timeout=60s")
    return seconds


def _drain(option: str, value: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise UsageError(f"mount option {option!r}: {error}") from error


def _cache(option: str, value: str) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        raise UsageError(
            f"mount option {option!r}: give a size, such as cache_size=50G, or 0 for none"
        ) from error


def _rate(option: str, value: str) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        raise UsageError(
            f"mount option {option!r}: give bytes a second, such as scrub_rate=10M, or 0 for none"
        ) from error


def _period(option: str, value: str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError:
        seconds = 0.0
    if seconds < _SCRUB_EVERY_MIN_S:
        raise UsageError(
            f"mount option {option!r}: give a duration of 1h or more, such as scrub_every=30d"
        )
    return seconds


def _address(option: str, value: str) -> Address:
    """``PORT`` on the loopback, ``HOST:PORT`` or ``[HOST]:PORT``."""
    host, colon, port = value.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        found = ipaddress.ip_address(bare) if colon else ipaddress.IPv4Address("127.0.0.1")
        is_whole = host == (f"[{bare}]" if found.version == 6 else bare) or not colon
        is_port = port.isascii() and port.isdigit() and int(port) <= _PORT_MAX
    except ValueError:
        is_whole = is_port = False
    if not (is_whole and is_port):
        raise UsageError(
            f"mount option {option!r}: give a port, such as metrics=9125, or an IP address and a"
            " port, such as metrics=192.0.2.1:9125 or metrics=[::1]:9125"
        )
    return Address(str(found), int(port))

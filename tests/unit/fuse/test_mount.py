"""What a mount asks of libfuse."""

import os
from collections.abc import Callable
from typing import Any

import pyfuse3
import pytest
import trio

from fusefs.config.options import MountOptions
from fusefs.errors import FuseUnavailable
from fusefs.fuse import wait
from fusefs.fuse.mount import FuseMount
from tests.unit.inprocess import InProcess

Mount = Callable[..., set[str]]


@pytest.fixture
def mount(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> Mount:
    """Mounts without a kernel; returns the options that pyfuse3 was given."""

    def mount(*options: str, fsname: str = "/srv/store", uid: int = 0) -> set[str]:
        given: list[set[str]] = []
        monkeypatch.setattr(pyfuse3, "init", lambda *arguments: given.append(arguments[2]))
        monkeypatch.setattr(wait, "install", lambda: None)
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        FuseMount(fs.filesystem, "/mnt", MountOptions.parse(options), fsname).mount()
        return given[0]

    return mount


def test_a_mount_of_a_user(mount: Mount) -> None:
    assert mount(uid=1000) == {"default_permissions", "subtype=fusefs", "fsname=/srv/store"}


def test_roots_mount_has_devices_and_set_id_as_a_local_disk(mount: Mount) -> None:
    assert mount("allow_other") - mount("allow_other", uid=1000) == {"dev", "suid"}
    assert mount("allow_other", uid=1000) <= mount("allow_other")


def test_the_kernel_checks_permissions_unless_root_is_alone(
    mount: Mount, fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mount("allow_other") - mount() == {"allow_other", "default_permissions"}
    for uid, allow_other, checks in ((0, False, False), (0, True, True), (7, False, True)):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        options = MountOptions(allow_other=allow_other)
        assert FuseMount(fs.filesystem, "/mnt", options, "x")._operations.enable_acl == checks


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("nodev", {"nodev", "suid"}),
        ("nosuid", {"nosuid", "dev"}),
        ("nosuid,nodev,ro", {"nosuid", "nodev", "ro"}),
        ("dev,allow_other", {"dev", "suid", "allow_other"}),
    ],
)
def test_root_may_ask_for_less(mount: Mount, options: str, expected: set[str]) -> None:
    assert mount(options) - mount(uid=1000) == expected


@pytest.mark.parametrize(
    ("fsname", "expected"),
    [
        ("/a,b", b"fsname=/a\\,b"),
        ("/a\\b", b"fsname=/a\\\\b"),
        ("/a\\,b,", b"fsname=/a\\\\\\,b\\,"),
        ("/gr\u00fcn \udcff", b"fsname=/gr\xc3\xbcn \xff"),
    ],
)
def test_a_name_of_any_bytes_is_one_option(mount: Mount, fsname: str, expected: bytes) -> None:
    (option,) = [o for o in mount(fsname=fsname) if o.startswith("fsname=")]
    assert option.encode("us-ascii") == expected


def test_a_refused_mount_says_what_may_help(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("fuse_session_mount failed")

    monkeypatch.setattr(pyfuse3, "init", refuse)
    with pytest.raises(FuseUnavailable, match=r"/mnt .*fuse_session_mount failed.*/dev/fuse"):
        FuseMount(fs.filesystem, "/mnt", MountOptions(), "x").mount()


def test_the_switches_of_the_session(fs: InProcess) -> None:
    for acl, writeback_cache in ((True, False), (False, True)):
        options = MountOptions(acl=acl, writeback_cache=writeback_cache, allow_other=True)
        operations = FuseMount(fs.filesystem, "/mnt", options, "x")._operations
        assert (operations.enable_acl, operations.enable_writeback_cache) == (acl, writeback_cache)


def test_it_knows_what_the_kernel_refers_to(fs: InProcess) -> None:
    mounted = FuseMount(fs.filesystem, "/mnt", MountOptions(), "x")
    mounted._operations.references.add(9)
    assert mounted.is_referenced(9)
    assert not mounted.is_referenced(8)


def test_a_read_ahead_that_cannot_be_set_is_no_reason_to_stop(
    fs: InProcess, logged: list[Any]
) -> None:
    missing = str(fs.path / "missing")
    trio.run(FuseMount(fs.filesystem, missing, MountOptions(), "x")._set_read_ahead)
    assert [line["log_level"] for line in logged] == ["info"]
    assert logged[0]["reason"] == "No such file or directory"

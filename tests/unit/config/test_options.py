"""Mount options: what is known is kept apart by who carries it out, what is not is named."""

import pytest

from fusefs.config.options import MountOptions
from fusefs.errors import UsageError


def test_nothing_given_is_the_default() -> None:
    assert MountOptions.parse([]) == MountOptions() == MountOptions.parse(["", ",,"])


def test_own_options_become_fields() -> None:
    found = MountOptions.parse(["noatime,noacl", "show_trash,writeback_cache,dirty_limit=128"])
    assert found.noatime
    assert not found.acl
    assert found.show_trash
    assert found.writeback_cache
    assert found.dirty_limit_bytes == 128 << 20


def test_options_that_the_kernel_carries_out_are_passed_on() -> None:
    found = MountOptions.parse(["ro,allow_other,nosuid,nodev,noexec"])
    assert found.read_only
    assert found.allow_other
    assert found.fuse_options == {"ro", "allow_other", "nosuid", "nodev", "noexec"}


def test_an_fstab_line_may_say_what_mount_and_systemd_read() -> None:
    line = "defaults,rw,nofail,_netdev,user,x-systemd.automount,x-gvfs-show"
    assert MountOptions.parse([line]) == MountOptions()


@pytest.mark.parametrize("option", ["dirtylimit=3", "compress", "RO"])
def test_an_unknown_option_is_named(option: str) -> None:
    with pytest.raises(UsageError, match=option):
        MountOptions.parse(["ro", option])


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "65537", "64M"])
def test_a_limit_that_makes_no_sense_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="whole MiB"):
        MountOptions.parse([f"dirty_limit={value}"])


def test_the_scrub_has_a_rate_and_a_pause() -> None:
    found = MountOptions.parse(["scrub_rate=10M,scrub_every=2w"])
    assert (found.scrub_rate, found.scrub_every_s) == (10 << 20, 14 * 86400)
    assert MountOptions.parse(["scrub_rate=0"]).scrub_rate == 0


@pytest.mark.parametrize(
    "option", ["scrub_rate=", "scrub_rate=fast", "scrub_rate=-1", "scrub_every=0", "scrub_every=3m"]
)
def test_a_scrub_that_makes_no_sense_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match=option):
        MountOptions.parse([option])


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("9125", "127.0.0.1", 9125),
        ("0", "127.0.0.1", 0),
        ("0.0.0.0:9125", "0.0.0.0", 9125),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_counters_are_asked_for_at_an_address(value: str, host: str, port: int) -> None:
    found = MountOptions.parse([f"metrics={value}"]).metrics
    assert found == (host, port)
    assert str(found) == (value if ":" in value else f"127.0.0.1:{value}")


@pytest.mark.parametrize(
    "value",
    ["", "x", "-1", "65536", ":9125", "localhost:9125", "1.2.3:1", "::1:9125", "[1.2.3.4]:1", "1:"],
)
def test_an_address_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="give a port, such as metrics=9125"):
        MountOptions.parse([f"metrics={value}"])

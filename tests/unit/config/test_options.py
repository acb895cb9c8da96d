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

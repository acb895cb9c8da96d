"""Waiting for requests: quick under load, fair to other tasks, else as pyfuse3 itself does it."""

import os
from collections.abc import Iterator
from itertools import count

import pyfuse3
import pytest
import trio

from fusefs.fuse import wait

HOOK = "_wait_fuse_readable"


class Device:
    """A pipe in place of /dev/fuse, and a plain wait that counts its calls."""

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()
        self.waits = 0
        self.is_open = True

    def request(self, count: int = 1) -> None:
        os.write(self._writer, b"r" * count)

    async def plain(self) -> bool:
        self.waits += 1
        await trio.lowlevel.checkpoint()
        return self.is_open

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self._writer)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.close()


async def test_a_request_that_is_there_is_taken_at_once(device: Device) -> None:
    device.request()
    shim = wait._shim(device.plain, device.descriptor, lambda: 0.0)
    assert await shim()
    assert device.waits == 0


async def test_an_idle_device_is_waited_for_as_pyfuse3_does(device: Device) -> None:
    async def plain() -> bool:
        device.waits += 1
        device.request()
        return True

    assert await wait._shim(plain, device.descriptor)()
    assert device.waits == 1


async def test_a_request_that_another_task_took_is_waited_for_again(device: Device) -> None:
    async def plain() -> bool:
        device.waits += 1
        if device.waits == 3:
            device.request()
        return True

    assert await wait._shim(plain, device.descriptor)()
    assert device.waits == 3


async def test_the_end_of_the_session_ends_the_wait(device: Device) -> None:
    device.is_open = False
    assert not await wait._shim(device.plain, device.descriptor)()


async def test_other_tasks_run_under_any_load(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "_SPIN_S", 1.0)
    device.request()  # always more to do
    ticks = count()
    # Two looks at the clock, one request, are a quarter of the time that may pass without others.
    shim = wait._shim(device.plain, device.descriptor, lambda: next(ticks) * wait._TRIO_EVERY_S / 8)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(320):
            assert await shim()
        nursery.cancel_scope.cancel()
    assert 320 // 5 <= device.waits <= 320 // 4
    assert turns >= device.waits - 1


class Steps:
    """A relay that says what is done."""

    def __init__(self, *, has_request: bool) -> None:
        self._has_request = has_request
        self.done: list[str] = []

    def begin(self) -> bool:
        self.done.append("begin")
        return self._has_request

    def finish(self) -> None:
        self.done.append("finish")


@pytest.mark.parametrize("has_request", [True, False])
def test_the_first_request_alone_is_relayed(
    has_request: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(has_request=has_request)

    async def then() -> bool:
        steps.done.append("then")
        return True

    async def waits() -> None:
        for _ in range(3):
            assert await getattr(pyfuse3, HOOK)()

    monkeypatch.setattr(pyfuse3, HOOK, wait._relaying(steps, then))  # type: ignore[arg-type]
    trio.run(waits)
    if has_request:
        assert steps.done == ["begin", "finish", "then", "then"]
    else:
        assert steps.done == ["begin", "then", "then", "then"]


def test_the_hook_of_pyfuse3_is_replaced(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyfuse3, HOOK, device.plain)
    monkeypatch.setattr(wait, "_device", lambda: device.descriptor)
    monkeypatch.setattr(wait, "_TRIO_EVERY_S", 3600.0)
    wait.install()
    device.request()
    for _ in range(3):
        installed = getattr(pyfuse3, HOOK)
        assert installed is not device.plain
        assert trio.run(installed)
        device.request()
    assert device.waits == 0


def test_this_pyfuse3_has_the_hook() -> None:
    assert hasattr(pyfuse3, HOOK)


def test_without_the_hook_nothing_is_replaced(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(pyfuse3, HOOK)
    monkeypatch.setattr(wait, "_device", lambda: device.descriptor)
    wait.install()
    assert not hasattr(pyfuse3, HOOK)


def test_without_a_device_nothing_is_replaced(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyfuse3, HOOK, device.plain)
    monkeypatch.setattr(wait, "_device", lambda: None)
    wait.install()
    assert getattr(pyfuse3, HOOK) == device.plain


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ({"11": "/dev/fuse", "3": "/dev/fuse", "12": "/dev/null"}, 11),
        ({"3": "/dev/null"}, None),
        ({"3": "gone", "4": "/dev/fuse"}, 4),
    ],
)
def test_the_newest_device_is_the_session(
    links: dict[str, str], found: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def readlink(path: str) -> str:
        target = links[os.path.basename(path)]
        if target == "gone":
            raise FileNotFoundError
        return target

    monkeypatch.setattr(os, "listdir", lambda path: list(links))
    monkeypatch.setattr(os, "readlink", readlink)
    assert wait._device() == found

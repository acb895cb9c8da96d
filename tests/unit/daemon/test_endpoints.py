"""What users write for an end of a transfer."""

import pytest

from fusefs.daemon import endpoints
from fusefs.errors import BadTransfer
from fusefs.model.transfer import Endpoint, Kind
from tests.unit.inprocess import InProcess


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("file:///srv/in%20box/", Endpoint(Kind.DIRECTORY, path=b"/srv/in box")),
        (
            "file:///mnt/usb?mountpoint=/mnt/usb",
            Endpoint(Kind.URL, "file:///mnt/usb?mountpoint=/mnt/usb"),
        ),
        ("s3://bucket/in", Endpoint(Kind.URL, "s3://bucket/in")),
    ],
)
def test_what_a_url_says_is_kept(fs: InProcess, text: str, endpoint: Endpoint) -> None:
    store = fs.filesystem.store
    assert endpoints.parse(text, b"", "", "destination", store, None) == endpoint


@pytest.mark.parametrize("text", ["file://srv/box", "file:srv/box://", "file://"])
def test_no_directory_is_guessed_from_a_url(fs: InProcess, text: str) -> None:
    with pytest.raises(BadTransfer, match="file:///dir"):
        endpoints.parse(text, b"", "", "destination", fs.filesystem.store, None)


def test_nothing_is_moved_into_the_bowels_of_a_store(fs: InProcess) -> None:
    store = fs.filesystem.store
    for path in (store.path, store.path / "segments"):
        for text in (str(path), f"file://{path}"):
            with pytest.raises(BadTransfer, match="store:/PATH"):
                endpoints.parse(text, bytes(path), "", "destination", store, b"/mnt")
    beside = bytes(store.path) + b"-2"
    found = endpoints.parse("beside", beside, "", "destination", store, b"/mnt")
    assert found == Endpoint(Kind.DIRECTORY, path=beside)

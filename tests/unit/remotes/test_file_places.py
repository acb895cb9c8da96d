"""From a place to its files."""

from pathlib import Path

import pytest

from fusefs.errors import BadRemote, RemoteUnreachable
from fusefs.remotes import file_places
from fusefs.remotes.local_files import LocalFiles
from fusefs.transfers.orders import Place


def test_nothing_is_written_where_a_disk_is_not_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "usb"
    (disk / "dir").mkdir(parents=True)
    files = file_places.connect(Place(url=f"file://{disk}/dir?mountpoint={disk}", path=b"in"))
    for call in (
        files.check_writable,
        lambda: files.write_whole(b"a", [b"content"]),
        lambda: files.rename(b"a", b"new/b"),
    ):
        with pytest.raises(RemoteUnreachable, match="nothing is mounted"):
            call()
    assert list((disk / "dir").iterdir()) == []
    monkeypatch.setattr("os.path.ismount", lambda path: path == str(disk))
    files.write_whole(b"a", [b"content"])
    assert (disk / "dir" / "in" / "a").read_bytes() == b"content"


def test_a_name_that_is_too_long_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(BadRemote, match="too long"):
        LocalFiles(bytes(tmp_path)).writer(b"x" * 300, 0)

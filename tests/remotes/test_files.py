"""What every place of files must keep, put to real servers: what transfers rely on."""

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from fusefs.agent.carrying import Carrying
from fusefs.errors import (
    BadTransfer,
    NoSuchObject,
    PayloadTooLarge,
    RemoteMissing,
    RemoteUnreachable,
)
from fusefs.remotes import address, file_places, keyring
from fusefs.remotes.encrypted_files import MAGIC
from fusefs.remotes.files import Files, read_fully
from fusefs.remotes.local_files import LocalFiles
from fusefs.remotes.sealed import plain_size
from fusefs.remotes.secrets import Secrets
from fusefs.remotes.sftp_session import Client
from fusefs.transfers.orders import Place
from tests.remotes.proxy import Proxy
from tests.remotes.servers import RcloneS3, RcloneWebdav, SeaweedS3, Server, SshSftp
from tests.unit.remotes.encryption import CREATED, SECRET, WEAK

pytestmark = [pytest.mark.slow]

SERVERS = {"seaweed": SeaweedS3, "rclone s3": RcloneS3, "webdav": RcloneWebdav, "sftp": SshSftp}
#: What some services take at most; encrypted, it holds a little less.
SMALL = 64 << 20, plain_size(64 << 20, len(MAGIC))
#: Larger than what goes in one piece.
LARGE = (64 << 20) + 12345


@pytest.fixture(
    scope="module",
    params=[
        (kind, is_encrypted) for kind in ("directory", *SERVERS) for is_encrypted in (False, True)
    ],
    ids=lambda it: f"{it[0]}{', encrypted' * it[1]}",
)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("place")
    kind, is_encrypted = request.param
    if kind != "directory":
        with SERVERS[kind](directory) as server:
            yield encrypted(server.url, server.secrets, directory) if is_encrypted else at(server)
    elif is_encrypted:
        (directory / "remote").mkdir()
        yield encrypted(f"file://{directory}/remote", {}, directory)
    else:
        yield Place(directory=bytes(directory))


def at(server: Server) -> Place:
    secrets = f"file:{server.secrets_file()}" if server.secrets else ""
    return Place(url=server.url, secrets=secrets)


def encrypted(url: str, secrets: Mapping[str, str], directory: Path) -> Place:
    """An encrypted remote; what opens it is beside it in `directory`."""
    path = directory / "with-passphrase"
    secrets = {**secrets, "passphrase": "correct horse"}
    path.write_text("".join(f"{name} = '{value}'\n" for name, value in secrets.items()))
    path.chmod(0o600)
    with closing(address.connect(url, Secrets(secrets))) as remote:
        keyring.create(remote, SECRET, created=CREATED, strength=WEAK)
    return Place(url=url, secrets=f"file:{path}", is_encrypted=True)


@pytest.fixture
def files(place: Place, request: pytest.FixtureRequest) -> Iterator[Files]:
    """A folder of its own for each test."""
    folder = request.node.originalname.encode()
    with closing(file_places.connect(place)) as found:
        found.write_whole(folder + b"/.keep", [b""])
    with closing(file_places.connect(msgspec.structs.replace(place, path=folder))) as files:
        yield files


def content(files: Files, path: bytes) -> bytes:
    seen = files.look(path)
    assert seen is not None
    with closing(files.reader(path)) as reader:
        return read_fully(reader, 0, seen.size + 10)


def test_what_is_written_is_read(files: Files) -> None:
    files.check_readable()
    files.check_writable()
    files.write_whole(b"sub/\xc3\xa4 b", [b"one", b"two"])
    assert content(files, b"sub/\xc3\xa4 b") == b"onetwo"
    assert files.look(b"sub") is None
    assert files.look(b"sub/none") is None
    with pytest.raises(NoSuchObject):
        files.reader(b"sub/none")
    files.write_whole(b"sub/empty", [])
    assert content(files, b"sub/empty") == b""


def test_what_can_never_be_there_is_known_before(files: Files, place: Place) -> None:
    files.check_fits(b"sub/a", 100)
    if (most := files.capabilities.whole_bytes) is not None:
        files.check_fits(b"sub/a", most)
        with pytest.raises(PayloadTooLarge, match="sub/a has"):
            files.check_fits(b"sub/a", most + 1)
    if place.directory or place.is_encrypted:
        files.check_fits(b"\xff", 1)
    else:
        with pytest.raises(BadTransfer, match="must be UTF-8"):
            files.check_fits(b"\xff", 1)


def test_all_below_is_found(files: Files) -> None:
    for name in (b"a/b/c", b"a/d", b"ab", b"e"):
        files.write_whole(name, [name])
    assert sorted(one.path for one in files.walk(b"a")) == [b"a/b/c", b"a/d"]
    assert sorted(one.path for one in files.walk(b"") if one.path != b".keep") == [
        b"a/b/c", b"a/d", b"ab", b"e",
    ]  # fmt: skip
    assert {one.path: one.size for one in files.walk(b"a")}[b"a/d"] == 3
    assert (files.has_folder(b"a"), files.has_folder(b"none")) == (True, False)


def test_a_listing_by_sftp_says_all_of_files_and_of_links_what_they_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    stat = Client.stat

    def counted(client: Client, path: str) -> object:
        asked.append(path)
        return stat(client, path)

    with SshSftp(tmp_path) as server, closing(file_places.connect(at(server))) as files:
        files.write_whole(b"dir/file", [b"four"])
        os.symlink("file", server.data / "dir" / "link")
        os.symlink("nothing", server.data / "dir" / "broken")
        whole = [files.look(b"dir/file"), files.look(b"dir/link")]
        monkeypatch.setattr(Client, "stat", counted)
        assert list(files.walk(b"dir")) == whole
    assert sorted(path.rpartition("/")[2] for path in asked) == ["broken", "link"]


def test_a_rename_replaces_and_a_removal_removes(files: Files) -> None:
    files.write_whole(b".partial/0", [b"new"])
    files.write_whole(b"x/y", [b"old"])
    files.rename(b".partial/0", b"x/y")
    assert content(files, b"x/y") == b"new"
    assert files.look(b".partial/0") is None
    assert (files.remove(b"x/y"), files.remove(b"x/y")) == (True, False)
    files.write_whole(b".partial/1", [b"1"])
    files.remove_folder(b".partial")
    assert not files.has_folder(b".partial")
    files.remove_folder(b".partial")


def test_behind_the_end_of_a_file_that_became_shorter_is_nothing(files: Files) -> None:
    files.write_whole(b"f", [bytes(10 << 20)])
    with closing(files.reader(b"f")) as reader:
        files.write_whole(b"f", [b"short"])
        assert reader.read(9 << 20, 1000) == b""


def test_a_version_changes_with_the_content(files: Files) -> None:
    files.write_whole(b"v", [b"1"])
    first = files.look(b"v")
    assert files.look(b"v") == first
    files.write_whole(b"v", [b"22"])
    assert files.look(b"v") != first


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1, LARGE])
def test_a_file_goes_there_and_back(files: Files, tmp_path: Path, size: int) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.mkdir()
    back.mkdir()
    whole = random.Random(size).randbytes(size)
    (there / "f").write_bytes(whole)
    ticks: list[int] = []
    carrying = Carrying(LocalFiles(bytes(there)), files, b"f", b"id", 0)
    if files.capabilities.whole_bytes in SMALL and size == LARGE:
        with pytest.raises(PayloadTooLarge):
            carrying.run(lambda good, sent: None)
        return
    moved = carrying.run(lambda good, sent: ticks.append(good))
    assert (moved.size, moved.blake3, moved.sha256) == (
        size, blake3(whole).digest(), sha256(whole).digest(),
    )  # fmt: skip
    assert ticks == sorted(ticks)
    Carrying(files, LocalFiles(bytes(back)), b"id/f", b"out", 0).run(lambda good, sent: None)
    assert (back / "out/id/f").read_bytes() == whole


class Cut(Exception):
    """The agent dies here."""


def test_a_file_that_was_cut_off_is_gone_on_with(files: Files, tmp_path: Path) -> None:
    whole = random.Random(1).randbytes((5 << 20) + 7)
    (tmp_path / "f").write_bytes(whole)

    def cut(good: int, sent: int) -> None:
        if good >= 3 << 20:
            raise Cut

    source = LocalFiles(bytes(tmp_path))
    with pytest.raises(Cut):
        Carrying(source, files, b"f", b"id", 0).run(cut)
    if not files.capabilities.can_resume:
        moved = Carrying(source, files, b"f", b"id", 0).run(lambda good, sent: None)
        assert content(files, b"id/f") == whole
        assert (moved.sent_bytes, moved.resumed_bytes) == (len(whole), 0)
        return
    files.patch(b"id/.partial/0", 5, b"rotten")
    moved = Carrying(source, files, b"f", b"id", 0).run(lambda good, sent: None)
    assert content(files, b"id/f") == whole
    assert moved.sent_bytes == (2 << 20) + 7 + (1 << 20)
    assert moved.resumed_bytes == 3 << 20


def test_a_place_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(RemoteMissing):
        LocalFiles(bytes(tmp_path / "none")).check_writable()


def test_a_large_file_is_seen_to_move(seaweed: SeaweedS3, proxy: Callable[[Server], Proxy]) -> None:
    """It does not wait in memory for one long request."""
    before = proxy(seaweed)
    place = Place(url=seaweed.at(before.port), secrets=f"file:{seaweed.secrets_file()}")
    sent: list[int] = []

    def parts() -> Iterator[bytes]:
        for _ in range(20):
            sent.append(before.up >> 20)
            yield os.urandom(1 << 20)

    with closing(file_places.connect(place)) as files:
        files.write_whole(b"seen/large", parts())
    assert sent[-1] >= 8


@pytest.mark.parametrize("how", ["stall", "refuse"])
def test_a_line_that_is_lost_in_the_middle_of_a_large_file_is_told_as_such(
    seaweed: SeaweedS3, proxy: Callable[[Server], Proxy], how: str
) -> None:
    """So that it is tried again."""
    line = proxy(seaweed)
    url = f"{seaweed.at(line.port)}&timeout=1s&slowest=8M"
    place = Place(url=url, secrets=f"file:{seaweed.secrets_file()}")

    def parts() -> Iterator[bytes]:
        for number in range(40):
            if number == 12:
                getattr(line, how)()
            yield os.urandom(1 << 20)

    with closing(file_places.connect(place)) as files:
        with pytest.raises(RemoteUnreachable) as lost:
            files.write_whole(b"lost/.partial/0", parts())
        assert "\n" not in str(lost.value)
        line.flow()
        line.allow()
        files.remove_folder(b"lost/.partial")
        assert files.look(b"lost/.partial/0") is None

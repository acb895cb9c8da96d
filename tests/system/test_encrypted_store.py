"""An encrypted store through the program: ways to give its key, and what its directory shows."""

import json
import os
from pathlib import Path
from random import Random

import pytest

from fusefs.cli.app import INTERRUPTED
from fusefs.errors import BadRemote, UsageError, WrongKey
from tests.conftest import Mounted, fusefs, run_fusefs
from tests.system.away import add_remote, drop_caches, flip, sync
from tests.system.terminal import Terminal

PLAIN = b"a known plain text; "
NAME = "a-known-name"
TEXT = PLAIN * 60_000


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(os.urandom(32))
    return path


@pytest.fixture
def store(tmp_path: Path, key: Path) -> Path:
    path = tmp_path / "store"
    fusefs("init", "--encrypt", "--key-file", key, path)
    return path


@pytest.fixture
def mounted(store: Path, mnt: Path, key: Path) -> "Mounted":  # type: ignore[misc]
    filesystem = Mounted(store, mnt)
    try:
        filesystem.mount("--key-file", str(key))
        yield filesystem
    finally:
        filesystem.clean_up()
    assert filesystem.unexpected() == []


def shown(store: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(store)): one.read_bytes() for one in store.rglob("*") if one.is_file()
    }


def with_plain(store: Path) -> list[str]:
    return [name for name, content in shown(store).items() if PLAIN in content]


@pytest.mark.mount
def test_a_killed_mount_comes_back_and_shows_nothing(
    mounted: Mounted, key: Path, tmp_path: Path
) -> None:
    noise = os.urandom(5 << 20)
    (tmp_path / "source").write_bytes(TEXT)
    fusefs("cp", tmp_path / "source", mounted.mnt / "text")
    for name, content in ("small", PLAIN), ("noise", noise):
        with open(mounted.mnt / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    assert with_plain(mounted.store) == []
    mounted.kill()
    mounted.mount("-o", f"key_file={key}")
    assert (mounted.mnt / "noise").read_bytes() == noise
    assert (mounted.mnt / "text").read_bytes() == TEXT
    fusefs("fsck", "--read-data", mounted.mnt, "--key-file", key)
    mounted.umount()
    assert with_plain(mounted.store) == []
    files = b"".join(shown(mounted.store).values())
    assert noise[:32] not in files
    assert key.read_bytes() not in files
    fusefs("gc", mounted.store, FUSEFS_KEY_FILE=str(key))
    fusefs("scrub", mounted.store, FUSEFS_KEY_FILE=str(key))
    fusefs("fsck", "--read-data", "--repair", mounted.store, "--key-file", key)
    fusefs("rebuild", mounted.store, "--key-file", key)
    fusefs("put", tmp_path / "source", f"{mounted.store}:/again", FUSEFS_KEY_FILE=str(key))
    mounted.mount(FUSEFS_KEY_FILE=str(key))
    assert (mounted.mnt / "again").read_bytes() == TEXT
    assert (mounted.mnt / "noise").read_bytes() == noise
    assert (mounted.mnt / "small").read_bytes() == PLAIN


@pytest.mark.mount
@pytest.mark.parametrize(
    "command",
    [
        ["mount", "STORE", "MNT"],
        ["fsck", "STORE"],
        ["fsck", "--repair", "STORE"],
        ["rebuild", "STORE"],
        ["gc", "STORE"],
        ["scrub", "STORE"],
        ["status", "STORE"],
        ["key", "add", "STORE", "--new-key-file", "WRONG"],
    ],
    ids=" ".join,
)
def test_without_the_key_every_verb_names_the_store_and_changes_nothing(
    store: Path, mnt: Path, tmp_path: Path, command: list[str]
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(bytes(32))
    before = shown(store)
    places = {"STORE": store, "MNT": mnt, "WRONG": wrong}
    arguments = [places.get(one, one) for one in command]
    for environ in ({}, {"FUSEFS_KEY_FILE": str(wrong)}):
        done = run_fusefs(*arguments, **environ)
        assert done.returncode == WrongKey.exit_code, done
        assert str(store) in done.stderr
        assert "key_file=" in done.stderr
        assert "FUSEFS_KEY_FILE" in done.stderr
    assert shown(store) == before


def test_files_that_are_no_keys_are_refused(store: Path, mnt: Path, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    for options in (
        ["--key-file", tmp_path / "short"],
        ["--key-file", tmp_path / "none"],
        ["--key-file", "credential:x"],
        ["--key-file", tmp_path / "short", "--passphrase-file", tmp_path / "short"],
    ):
        done = run_fusefs("mount", *options, store, mnt)
        assert done.returncode == UsageError.exit_code, done
    fusefs("init", tmp_path / "plain")
    done = run_fusefs("mount", "--key-file", tmp_path / "short", tmp_path / "plain", mnt)
    assert done.returncode == UsageError.exit_code
    assert "is not encrypted" in done.stderr
    done = run_fusefs("init", "--key-file", tmp_path / "short", tmp_path / "other")
    assert done.returncode == UsageError.exit_code
    assert not (tmp_path / "other").exists()


@pytest.mark.mount
def test_a_credential_of_systemd_opens_it(
    store: Path, mnt: Path, key: Path, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "fusefs.key").write_bytes(key.read_bytes())
    (credentials / "mine").write_bytes(key.read_bytes())
    for options in ([], ["-o", "key_file=credential:mine"]):
        fusefs("mount", *options, store, mnt, CREDENTIALS_DIRECTORY=str(credentials))
        fusefs("umount", mnt)


@pytest.mark.mount
def test_a_passphrase_is_asked_for_at_a_terminal(tmp_path: Path, mnt: Path) -> None:
    store = tmp_path / "store"
    init = Terminal("init", "--encrypt", str(store))
    init.answer("New passphrase: ", "correct horse")
    init.answer("Repeat for confirmation: ", "correct horse")
    assert init.end() == 0
    wrong = Terminal("mount", str(store), str(mnt))
    wrong.answer(f"Passphrase of {store}: ", "battery staple")
    assert wrong.end() == WrongKey.exit_code
    mount = Terminal("mount", str(store), str(mnt))
    mount.answer(f"Passphrase of {store}: ", "correct horse")
    assert mount.end() == 0
    try:
        (mnt / "file").write_bytes(TEXT)
    finally:
        fusefs("umount", mnt)
    assert with_plain(store) == []
    assert "correct horse" not in init.seen + wrong.seen + mount.seen


@pytest.mark.mount
def test_who_copies_into_it_is_asked_once_and_may_give_up(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (tmp_path / "passphrase").write_text("correct horse")
    (tmp_path / "source").write_bytes(TEXT)
    fusefs("init", "--encrypt", "--passphrase-file", tmp_path / "passphrase", store)
    before = shown(store)
    put = "put", str(tmp_path / "source"), f"{store}:/text"
    given_up = Terminal(*put)
    given_up.interrupt(f"Passphrase of {store}: ")
    assert given_up.end() == INTERRUPTED
    assert shown(store) == before
    copy = Terminal(*put)
    copy.answer(f"Passphrase of {store}: ", "correct horse")
    assert copy.end() == 0
    assert copy.seen.count("Passphrase") == 1
    assert with_plain(store) == []


def test_for_a_key_file_nobody_is_asked(store: Path) -> None:
    status = Terminal("status", str(store))
    assert status.end() == WrongKey.exit_code
    assert "--key-file" in status.seen


@pytest.mark.mount
def test_the_key_is_changed_under_a_mount(mounted: Mounted, key: Path, tmp_path: Path) -> None:
    (mounted.mnt / "text").write_bytes(TEXT)
    new = tmp_path / "new"
    new.write_text("battery staple\n")
    segments = {n: c for n, c in shown(mounted.store).items() if n.startswith("segments/")}
    said = ["--key-file", key, "--new-passphrase-file", new]
    fusefs("key", "change", mounted.mnt, *said)
    for name, content in segments.items():
        assert (mounted.store / name).read_bytes().startswith(content)
    assert "passphrase" in fusefs("key", "list", mounted.mnt)
    mounted.umount()
    done = run_fusefs("mount", "--key-file", key, mounted.store, mounted.mnt)
    assert done.returncode == WrongKey.exit_code
    mounted.mount("--passphrase-file", str(new))
    assert (mounted.mnt / "text").read_bytes() == TEXT


@pytest.fixture
def secrets(tmp_path: Path, key: Path) -> str:
    """Of a remote: it has the key file of the store."""
    path = tmp_path / "secrets"
    path.write_text(f"key_file = '{key}'\n")
    path.chmod(0o600)
    return f"file:{path}"


@pytest.fixture
def place(tmp_path: Path, mounted: Mounted, secrets: str) -> Path:
    """An encrypted remote with all of a store that holds some files."""
    place = tmp_path / "elsewhere"
    add_remote(mounted, place, "far", "--encrypt", "--secrets", secrets)
    (mounted.mnt / "text").write_bytes(TEXT)
    (mounted.mnt / NAME).mkdir()
    for number in range(20):
        content = PLAIN * number + Random(number).randbytes(100_000 * number)
        (mounted.mnt / NAME / f"{NAME} {number}").write_bytes(content)
    sync(mounted)
    return place


@pytest.mark.mount
def test_its_remotes_are_encrypted_as_well(
    mounted: Mounted, tmp_path: Path, secrets: str, place: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    done = run_fusefs("remote", "add", mounted.mnt, "other", f"file://{other}")
    assert done.returncode == BadRemote.exit_code
    assert "--encrypt" in done.stderr
    assert list(other.iterdir()) == []
    files = shown(place)
    assert sum(map(len, files.values())) > len(TEXT)
    told = "".join(files).encode() + b"".join(files.values())
    assert [one for one in (PLAIN, NAME.encode(), Random(9).randbytes(32)) if one in told] == []


@pytest.mark.mount
def test_what_was_evicted_is_read_again_and_a_flipped_byte_is_healed(
    mounted: Mounted, key: Path, place: Path
) -> None:
    wanted = {path: path.read_bytes() for path in mounted.mnt.rglob("*") if path.is_file()}
    info = json.loads(fusefs("info", "--json", mounted.mnt / "text"))
    mounted.umount()
    flip(mounted.store, info)
    mounted.expected += ["a block is bad"]
    mounted.mount("--key-file", str(key))
    assert (mounted.mnt / "text").read_bytes() == TEXT
    assert "a bad block was healed from a remote" in mounted.log
    info = json.loads(fusefs("info", "--json", mounted.mnt / "text"))
    sync(mounted)
    mounted.umount()
    flip(mounted.store, info)
    out = fusefs("fsck", "--repair", "--read-data", mounted.store, "--key-file", key)
    assert "is as it was, from a remote" in out
    mounted.mount("--key-file", str(key))
    sync(mounted)
    assert json.loads(fusefs("evict", "--json", mounted.mnt))["freed_bytes"] > 15_000_000
    drop_caches(mounted.mnt)
    assert {path: path.read_bytes() for path in wanted} == wanted
    assert json.loads(fusefs("status", "--json", mounted.mnt))["counters"]["fetched_bytes"]
    assert not with_plain(mounted.store)
    fusefs("fetch", mounted.mnt)
    mounted.umount()
    fusefs("fsck", "--read-data", mounted.store, "--key-file", key)


@pytest.mark.mount
def test_a_clone_is_opened_by_the_new_key_and_goes_on(
    mounted: Mounted, key: Path, tmp_path: Path, secrets: str, place: Path
) -> None:
    new, other = tmp_path / "new", tmp_path / "other"
    new.write_bytes(os.urandom(32))
    fusefs("key", "change", mounted.mnt, "--key-file", key, "--new-key-file", new)
    (mounted.mnt / "late").write_bytes(PLAIN)
    sync(mounted)
    mounted.umount()
    fusefs("clone", f"file://{place}", other, "--secrets", secrets)
    clone = Mounted(other, mounted.mnt)
    try:
        for options in ([], ["--key-file", str(key)]):
            done = run_fusefs("mount", *options, other, mounted.mnt)
            assert done.returncode == WrongKey.exit_code
        clone.mount("--key-file", str(new))
        assert (clone.mnt / "text").read_bytes() == TEXT
        for number in range(20):
            content = (clone.mnt / NAME / f"{NAME} {number}").read_bytes()
            assert content == PLAIN * number + Random(number).randbytes(100_000 * number)
        (clone.mnt / "later").write_bytes((clone.mnt / "late").read_bytes() + TEXT)
        sync(clone)
    finally:
        clone.clean_up()
    assert clone.unexpected() == []
    assert not with_plain(other)
    fusefs("fsck", "--read-data", other, "--key-file", new)

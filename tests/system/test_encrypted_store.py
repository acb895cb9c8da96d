"""An encrypted store through the program: ways to give its key, and what its directory shows."""

import os
from pathlib import Path

import pytest

from fusefs.cli.app import INTERRUPTED
from fusefs.errors import BadRemote, UsageError, WrongKey
from tests.conftest import Mounted, fusefs, run_fusefs
from tests.system.terminal import Terminal

PLAIN = b"a known plain text; "
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


@pytest.mark.mount
def test_its_remotes_are_encrypted_as_well_and_a_clone_has_its_key(
    mounted: Mounted, key: Path, tmp_path: Path
) -> None:
    place, other = tmp_path / "elsewhere", tmp_path / "other"
    place.mkdir()
    (tmp_path / "secrets").write_text(f"key_file = '{key}'\n")
    (tmp_path / "secrets").chmod(0o600)
    url, secrets = f"file://{place}", ["--secrets", f"file:{tmp_path}/secrets"]
    (mounted.mnt / "text").write_bytes(TEXT)
    done = run_fusefs("remote", "add", mounted.mnt, "far", url)
    assert done.returncode == BadRemote.exit_code
    assert "--encrypt" in done.stderr
    assert list(place.iterdir()) == []
    fusefs("remote", "add", mounted.mnt, "far", url, "--encrypt", *secrets)
    fusefs("sync", "wait", mounted.mnt)
    fusefs("evict", mounted.mnt, "--mincopies", "1", "--numcopies", "1")
    assert not with_plain(mounted.store)
    assert (mounted.mnt / "text").read_bytes() == TEXT
    assert not with_plain(mounted.store)
    mounted.umount()

    fusefs("clone", url, other, *secrets)
    assert run_fusefs("mount", other, mounted.mnt).returncode == WrongKey.exit_code
    fusefs("mount", "-o", "ro", "--key-file", key, other, mounted.mnt)
    try:
        assert (mounted.mnt / "text").read_bytes() == TEXT
    finally:
        fusefs("umount", mounted.mnt)
    assert not with_plain(other)

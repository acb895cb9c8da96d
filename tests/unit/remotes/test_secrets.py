"""Secrets are found where they are said to be, and are never shown."""

import os
from pathlib import Path

import pytest

from fusefs.errors import BadRemote
from fusefs.remotes.secrets import read

SECRET = "TopSecret-x7"


def _file(tmp_path: Path, content: str | bytes, mode: int = 0o600) -> str:
    path = tmp_path / "secrets"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return f"file:{path}"


@pytest.mark.parametrize(
    "content",
    [
        f'access_key_id = "A"\nsecret_access_key = "{SECRET}"\n',
        f"ACCESS_KEY_ID=A\n# note\n\nexport SECRET_ACCESS_KEY='{SECRET}'\n",
        f"access-key-id=A\nsecret-access-key={SECRET}\n",
    ],
)
def test_a_file_is_toml_or_lines(tmp_path: Path, content: str) -> None:
    secrets = read(_file(tmp_path, content), {})
    assert dict(secrets) == {"access_key_id": "A", "secret_access_key": SECRET}
    assert SECRET not in repr(secrets)
    assert SECRET not in f"{secrets} {secrets!r}"


def test_the_environment_is_asked_by_prefix() -> None:
    environment = {"BACKUP_PASSWORD": SECRET, "BACKUP_OTHER": "x", "PASSWORD": "no"}
    assert dict(read("env:BACKUP", environment)) == {"password": SECRET}
    assert dict(read("env:BACKUP_", environment)) == {"password": SECRET}


def test_a_credential_of_systemd_is_found(tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text(f"password={SECRET}\n")
    # systemd opens it by an access control list, which shows as a right of the group.
    (tmp_path / "bucket").chmod(0o440)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert dict(read("credential:bucket", environment)) == {"password": SECRET}


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (f"password={SECRET}", 0o644, "chmod 600"),
        (f"password={SECRET}", 0o640, "chmod 600"),
        (f"pasword={SECRET}", 0o600, "pasword"),
        (f"password={SECRET}\n{SECRET}\n", 0o600, "line 2"),
        (f"password = 7\nusername = '{SECRET}'", 0o600, "password"),
        ("password = ''", 0o600, "password"),
        ("# nothing", 0o600, "empty"),
        (b"password=\xff\xfe" + SECRET.encode(), 0o600, "not text"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: str | bytes, mode: int, said: str) -> None:
    source = _file(tmp_path, content, mode)
    with pytest.raises(BadRemote) as raised:
        read(source, {})
    assert said in str(raised.value)
    assert source in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("file:/no/such/file", "No such file"),
        ("file:relative", "from the root"),
        ("file:/", "not a file"),
        ("env:", "prefix"),
        ("env:NOT_SET", "\\$NOT_SET_PASSWORD"),
        ("credential:", "name"),
        ("credential:../x", "name"),
        ("credential:x", "LoadCredential"),
        (SECRET, "file:/path"),
        (f"password:{SECRET}", "file:/path"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(source: str, said: str) -> None:
    with pytest.raises(BadRemote, match=said) as raised:
        read(source, {})
    assert SECRET not in str(raised.value)


def test_what_lacks_is_named_as_the_source_would_spell_it(tmp_path: Path) -> None:
    with pytest.raises(BadRemote, match=r"\$B_USERNAME is set"):
        read("env:B", {"B_PASSWORD": SECRET}).need("username", "webdav")
    source = _file(tmp_path, f"password={SECRET}")
    with pytest.raises(BadRemote, match="username"):
        read(source, {}).need("username", "webdav")
    with pytest.raises(BadRemote, match="--secrets"):
        read("", os.environ).need("username", "webdav")


def test_values_are_hidden_in_text() -> None:
    secrets = read("env:B", {"B_PASSWORD": SECRET})
    assert secrets.hide(f"a {SECRET} b") == "a *** b"

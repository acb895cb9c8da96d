"""The real servers, started when a test first needs one, ended with the session."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.remotes.proxy import Proxy, proxied
from tests.remotes.servers import RcloneS3, RcloneWebdav, SeaweedS3, Server, SshSftp


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedS3]:
    with SeaweedS3(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneS3]:
    with RcloneS3(tmp_path_factory.mktemp("rclone-s3")) as server:
        yield server


@pytest.fixture(scope="session")
def webdav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneWebdav]:
    with RcloneWebdav(tmp_path_factory.mktemp("webdav")) as server:
        yield server


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshSftp]:
    with SshSftp(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[Callable[[Server], Proxy]]:
    """A proxy before a server: give it the server."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda server: stack.enter_context(proxied(server.port))


@pytest.fixture
def no_secrets_file(tmp_path: Path) -> Path:
    """A secrets file that holds what is wrong everywhere."""
    path = tmp_path / "secrets"
    path.write_text("access_key_id = 'Nobody'\nsecret_access_key = 'WrongSecret-93hx'\n")
    path.chmod(0o600)
    return path

"""An encrypted remote in a real object store keeps what every remote must, and shows nothing."""

import os
from pathlib import Path

import pytest

from fusefs.base.clock import SystemClock
from fusefs.model import keyslot
from fusefs.remotes import address, contract, secrets
from fusefs.remotes.encrypted import initialise, open_encrypted
from fusefs.remotes.veil import Veil
from tests.remotes.servers import SeaweedS3


@pytest.mark.slow
def test_encryption_in_a_bucket(tmp_path: Path) -> None:
    secret = keyslot.passphrase("correct horse")
    with SeaweedS3(tmp_path) as server:
        known = secrets.read(f"file:{server.secrets_file()}", os.environ)
        raw = address.connect(server.url, known)
        remote = initialise(raw, secret, created="2026-11-22T00:00:00Z")
        trial = contract.Trial(remote, "trial/0123456789abcdef/")
        outcomes = list(contract.run(trial, SystemClock()))
        assert [outcome for outcome in outcomes if outcome.error] == []
        assert len(outcomes) == len(contract.CHECKS)

        names = [found.name for found in raw.list("")]
        assert [name for name in names if not Veil.is_covered(name)] == ["keys/1"]
        again = open_encrypted(address.connect(server.url, known), secret)
        assert len(list(again.list("trial/"))) == len(names) - 1
        contract.clean(trial)
        assert [found.name for found in raw.list("")] == ["keys/1"]

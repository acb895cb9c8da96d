"""A copy of the sample for each test to damage."""

import shutil
from pathlib import Path

import pytest

from tests.unit.fsck.sample import Sample, build


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fsck") / "store"
    build(path)
    return path


@pytest.fixture
def sample(template: Path, tmp_path: Path) -> Sample:
    shutil.copytree(template, tmp_path / "store")
    return Sample(tmp_path / "store")

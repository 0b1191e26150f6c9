"""What tests of the stages share."""

from pathlib import Path

import pytest
from scored_room import make_home


@pytest.fixture
def out(tmp_path) -> Path:
    """Where `manifest` puts its data."""
    return tmp_path / "data"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a room, its manifest, its cache and a run of a student that learned nothing."""
    home = tmp_path_factory.mktemp("home")
    make_home(home)
    return home


@pytest.fixture
def here(home, monkeypatch):
    """The same folder, as the current one."""
    monkeypatch.chdir(home)
    return home

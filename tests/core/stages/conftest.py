"""What tests of the stages share."""

from pathlib import Path

import pytest


@pytest.fixture
def out(tmp_path) -> Path:
    """Where `manifest` puts its data."""
    return tmp_path / "data"

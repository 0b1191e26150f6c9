"""What tests of the `cache` stage start from."""

import pytest
from cache_material import rgbd_manifest

from distill3r_core.stages.cache import CacheSettings


@pytest.fixture
def settings(tmp_path) -> CacheSettings:
    manifest = rgbd_manifest(tmp_path / "data", views=3)
    return CacheSettings(manifest=manifest, output=tmp_path / "cache", size="28x42")

"""Teacher features as an optional stream of a cache: what comes back, and who reads them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from small_caches import made_features, made_sample, write_cache

from distill3r_core.cache.header import read_header
from distill3r_core.cache.sample_codec import SampleEncoder
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.errors import CacheError, ConflictError, DamageError
from distill3r_core.stages.cache.merge import merge_caches
from distill3r_core.stages.cache.verify import VerifySettings, verify_cache

NAME, VIEWS = "made/01/000", [2, 0]


def read(cache: TeacherCache, layer: str) -> np.ndarray:
    out = np.empty((len(VIEWS), *cache.feature_shape(NAME, layer)), np.float16)
    cache.read_features_into(NAME, layer, VIEWS, out)
    return out


def test_features_come_back_bit_for_bit_for_the_views_that_are_wanted(tmp_path: Path) -> None:
    cache = TeacherCache(write_cache(tmp_path / "cache", features={"deep": 5, "shallow": 3}))
    assert cache.header.features == {"deep": 5, "shallow": 3}
    for layer, channels in cache.header.features.items():
        made = made_features(1, layer, views=4, channels=channels)
        assert cache.feature_shape(NAME, layer) == made.shape[1:]
        np.testing.assert_array_equal(read(cache, layer), made[VIEWS].half().numpy())


def test_samples_are_the_same_with_and_without_features(tmp_path: Path) -> None:
    plain = TeacherCache(write_cache(tmp_path / "plain")).read(NAME)
    other = TeacherCache(write_cache(tmp_path / "features", features={"deep": 5})).read(NAME)
    assert torch.equal(plain.images, other.images)
    assert torch.equal(plain.targets.points_local, other.targets.points_local)


def test_a_layer_that_is_not_declared_is_refused_with_those_that_are(tmp_path: Path) -> None:
    cache = TeacherCache(write_cache(tmp_path / "cache", features={"deep": 5}))
    with pytest.raises(CacheError, match="'shallow'") as caught:
        cache.feature_shape(NAME, "shallow")
    assert "deep" in str(caught.value.hint)


def test_values_beyond_float16_are_refused_by_name() -> None:
    images, targets = made_sample(0, views=4, size=(28, 42))
    features = {"deep": torch.full((4, 2, 3, 5), 1e6)}
    with pytest.raises(CacheError, match="made, view 0, features/deep"):
        SampleEncoder().encode("made", "content", images, targets, {}, features)


def test_damaged_features_are_found_by_readers_and_by_verify(tmp_path: Path) -> None:
    path = write_cache(tmp_path / "cache", features={"deep": 5})
    change_features(path, lambda record: record[:-1] + bytes([record[-1] ^ 1]))
    with pytest.raises(DamageError, match="features/deep"):
        read(TeacherCache(path), "deep")
    report = verify_cache(VerifySettings(path=path, manifest=tmp_path / "none"))
    assert not report.result["ok"]


def test_merged_caches_keep_their_features(tmp_path: Path) -> None:
    path = write_cache(tmp_path / "cache", features={"deep": 5})
    merge_caches([path], tmp_path / "merged")
    assert read_header(tmp_path / "merged").features == {"deep": 5}
    np.testing.assert_array_equal(
        read(TeacherCache(tmp_path / "merged"), "deep"), read(TeacherCache(path), "deep")
    )


def test_caches_with_other_features_are_not_mixed(tmp_path: Path) -> None:
    path = write_cache(tmp_path / "cache", features={"deep": 5})
    with pytest.raises(ConflictError, match="features"):
        CacheWriter(path, replace(read_header(path), features={}))


def change_features(cache: Path, change: Callable[[bytes], bytes]) -> None:
    """Change every stored record of features."""
    (folder,) = cache.glob("shard-*")
    with lmdb.open(str(folder), map_size=1 << 26) as database, database.begin(write=True) as writer:
        with writer.cursor() as cursor:
            found = [(bytes(k), bytes(v)) for k, v in cursor if bytes(k[:1]) == b"f"]
        for key, record in found:
            writer.put(key, change(record))
    assert found

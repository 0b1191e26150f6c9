"""A damaged manifest is noticed and can be replaced; no name makes one that cannot be read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distill3r_core.data.manifest import ManifestRow, read_manifest, read_rows, write_manifest
from distill3r_core.data.manifest_checksum import manifest_warning
from distill3r_core.errors import ConfigError
from distill3r_core.files import name_fault
from distill3r_core.io.images.decode import write_image
from distill3r_core.stages.manifest import ManifestSettings, build_manifest

ROW = ManifestRow(
    dataset="data",
    split="train",
    scene_id="scene",
    sample_id="000000",
    image_path="images/a.png",
    K=(1.0,) * 9,
    H=4,
    W=4,
    windows=(0,),
)
_NAMES = st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)


@pytest.fixture
def made(tmp_path) -> ManifestSettings:
    rng = np.random.default_rng(0)
    for frame in range(4):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        write_image(tmp_path / f"photos/kitchen/{frame:03d}.png", pixels)
    settings = ManifestSettings(
        roots=(tmp_path / "photos",), output=tmp_path / "data", views=2, val_scenes=0
    )
    build_manifest(settings)
    return settings


@given(dataset=_NAMES, scene=_NAMES, frame=_NAMES)
def test_any_name_of_a_folder_comes_back_from_a_manifest(tmp_path_factory, dataset, scene, frame):
    assume(name_fault(dataset) is None and name_fault(scene) is None)
    path = tmp_path_factory.mktemp("csv") / "manifest.csv"
    row = replace(ROW, dataset=dataset, scene_id=scene, sample_id=frame, image_path=f"{frame}.png")
    write_manifest(path, [row])
    assert read_rows(path) == (row,)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\u2028b", "a\u0085b", 'a;b,c"d', " a ", "a\tb"])
def test_a_folder_of_any_name_makes_a_manifest_that_is_read_again(tmp_path, name):
    rng = np.random.default_rng(0)
    for frame in range(4):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / name / f"{frame:03d}.png", pixels)
    settings = ManifestSettings(
        roots=(tmp_path / "photos",), output=tmp_path / "data", views=2, val_scenes=0
    )
    build_manifest(settings)
    manifest = read_manifest(tmp_path / "data/manifest.csv")
    assert all((manifest.root / row.image_path).is_file() for row in manifest.rows)
    assert build_manifest(settings).finished_before


def _garble(text: bytes) -> bytes:
    return text.replace(b"kitchen", b"\xffitchen", 1)


@pytest.mark.parametrize(
    "damage", [_garble, lambda text: b"", lambda text: text[:-30], lambda text: b'"' + text]
)
def test_overwrite_replaces_a_damaged_manifest(made, damage):
    path = made.output / "manifest.csv"
    text = path.read_bytes()
    path.write_bytes(damage(text))
    with pytest.raises(ConfigError) as error:
        build_manifest(made)
    assert "--overwrite" in (error.value.hint or "")
    build_manifest(made, overwrite=True)
    assert path.read_bytes() == text


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.json"])
def test_a_changed_manifest_is_noticed(made, name):
    path = made.output / "manifest.csv"
    assert manifest_warning(path) is None
    file = made.output / name
    text = file.read_bytes()
    file.write_bytes(text.replace(b"1", b"2", 1))
    warning = manifest_warning(path)
    assert warning is not None
    assert name in warning
    file.write_bytes(text)
    assert manifest_warning(path) is None


def test_a_manifest_without_a_record_is_read_without_a_warning(tmp_path: Path):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [ROW])
    assert manifest_warning(path) is None


def test_two_scenes_with_samples_of_one_name_are_refused(tmp_path):
    first = replace(ROW, dataset="a", scene_id="b/c")
    second = replace(ROW, dataset="a/b", scene_id="c")
    path = tmp_path / "manifest.csv"
    write_manifest(path, [first, second])
    with pytest.raises(ConfigError, match="both have a sample 'a/b/c/000'"):
        read_manifest(path).samples()

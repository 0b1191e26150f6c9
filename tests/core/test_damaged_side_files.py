"""Small files that commands keep beside what they make: damage costs them, and nothing else."""

import json
from contextlib import closing

import pytest

from distill3r_core import paths
from distill3r_core.cache.export_record import EXPORT_RECORD, read_export_record
from distill3r_core.data.frame_processing import RECORD, recorded_processing
from distill3r_core.data.manifest_checksum import manifest_warning
from distill3r_core.data.manifest_views import INDEX, read_stamps
from distill3r_core.errors import DamageError, ImageError, WeightsError
from distill3r_core.evaluation.spatialbench.readers import READERS
from distill3r_core.evaluation.spatialbench.scene import BenchScene
from distill3r_core.io.pair_files import CONFIG, head_counts
from distill3r_core.stages.evaluate.evaluate_models import _read_result
from distill3r_core.stages.manifest.frame_index import FrameEntry, FrameIndex
from distill3r_core.stages.manifest.video_frames import _DONE, _done
from distill3r_core.stages.weights import _HASHES, _known_hash
from distill3r_core.teachers.fast3r_config import read_config

DAMAGE = {
    "empty": b"",
    "no text": b'{"frames": "\xff\xfe"}',
    "nested": b"[" * 50_000,
    "nested in an object": b'{"written": ' + b"[" * 50_000,
    "a number of many digits": b'{"processing": ' + b"9" * 6000 + b"}",
    "a list": b"[1, 2]",
    "other types": b'{"written": [1], "processing": 3, "frames": {"a": 1}, "header": 1}',
    "more of other types": b'{"written": {"a": 3}, "processing": [1], "frames": [1], "header": {}}',
}


def _is_object(content: bytes) -> bool:
    return content in (DAMAGE["other types"], DAMAGE["more of other types"])


@pytest.fixture(params=DAMAGE)
def damage(request) -> bytes:
    return DAMAGE[request.param]


def test_the_record_of_a_manifest_is_warned_of(tmp_path, damage):
    (tmp_path / "manifest.csv").write_text("")
    (tmp_path / RECORD).write_bytes(damage)
    assert recorded_processing(tmp_path) == {}
    if not _is_object(damage):  # one of an earlier version has no checksum
        assert RECORD in (manifest_warning(tmp_path / "manifest.csv") or "")


def test_damaged_lines_of_an_index_are_made_again(tmp_path, damage):
    index = FrameIndex(tmp_path)
    index.add(FrameEntry("first", "made", ((1, 2),), written={"images/a.png": (1, 2)}))
    index.close()
    whole = (tmp_path / INDEX).read_bytes()
    torn = whole.split(b":", 1)[0] + b':"other",' + damage.strip(b"{}") + b"}\n"
    (tmp_path / INDEX).write_bytes(damage + b"\n" + torn + whole)
    with closing(FrameIndex(tmp_path)) as again:
        assert again.get("other") is None
        assert again.get("first") == FrameEntry(
            "first", "made", ((1, 2),), written={"images/a.png": (1, 2)}
        )
    assert set(read_stamps(tmp_path)) == {"images/a.png"}


def test_images_of_a_video_are_made_again(tmp_path, damage):
    made = {"video": [1, 2], "fps": 3.0}
    (tmp_path / _DONE).write_bytes(damage)
    assert _done(tmp_path, made) is None


@pytest.mark.parametrize("name", ["../../x", "/x", "a", ""])
def test_names_of_images_of_a_video_are_numbers(tmp_path, name):
    made = {"video": [1, 2]}
    (tmp_path / f"{name.replace('/', '')}.png").touch()
    (tmp_path / _DONE).write_text(json.dumps({**made, "frames": [name], "notes": [], "blank": {}}))
    assert _done(tmp_path, made) is None


def test_hashes_that_were_kept_are_made_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path))
    file = tmp_path / "weights"
    file.write_bytes(b"weights")
    wanted = _known_hash(file)
    store = paths.weights_home() / _HASHES
    entry = json.loads(store.read_text())
    for content in (damage, json.dumps(dict.fromkeys(entry, 3)).encode()):
        store.write_bytes(content)
        assert _known_hash(file) == wanted
    assert json.loads(store.read_text()) == entry


def test_what_cannot_be_made_again_is_named(tmp_path, damage):
    (tmp_path / "images").mkdir()
    readers = {
        EXPORT_RECORD: (lambda path: read_export_record(path.parent), DamageError),
        "result.json": (_read_result, DamageError),
        "config.json": (read_config, WeightsError),
        "meta.json": (lambda path: BenchScene(path.parent, READERS["adt"]).meta, ImageError),
    }
    for name, (read, error) in readers.items():
        if name in ("result.json", "meta.json") and _is_object(damage):
            continue  # what is in it is checked where it is used
        (tmp_path / name).write_bytes(damage)
        with pytest.raises(error, match=name.replace(".", r"\.")):
            read(tmp_path / name)


def test_a_description_that_is_nested_is_refused(tmp_path):
    (tmp_path / CONFIG).write_bytes(DAMAGE["nested"])
    with pytest.raises(WeightsError, match=CONFIG):
        head_counts(tmp_path / "model.safetensors", None)

"""Scenes of SpatialBench are checked first, and read one after the other as they are scored."""

import os
import weakref

import numpy as np
import pytest
from PIL import Image
from spatialbench_scenes import FRAMES, SIZE, write_scene

from distill3r_core.errors import ConflictError, InputMissingError
from distill3r_core.evaluation.spatialbench.readers import READERS
from distill3r_core.evaluation.spatialbench.scene import BenchScene
from distill3r_core.stages.evaluate import EvalSettings, evaluate, scored_model


def score(root, output, *, predict="truth"):
    settings = EvalSettings(
        data=root,
        protocol="spatialbench-sparse",
        predict=predict,
        size="42x56",
        device="cpu",
        output=output,
    )
    return evaluate(settings)


def test_no_two_scenes_are_in_memory_at_once(tmp_path, monkeypatch):
    root = tmp_path / "bench"
    for number in range(6):
        write_scene(root / "sparse" / ("tum" if number % 2 else "adt") / f"scene{number}")
    seen, predict = [], scored_model.WITHOUT_MODEL["truth"]

    def spy(truth, *others):
        seen.append(weakref.ref(truth))
        assert sum(one() is not None for one in seen) == 1
        return predict(truth, *others)

    monkeypatch.setitem(scored_model.WITHOUT_MODEL, "truth", spy)
    report = score(root, tmp_path / "result")
    assert len(seen) == 6 and report.result["views"] == 6 * FRAMES
    assert report.result["data_sets"].keys() == {"adt", "tum"}
    assert "by data set" in [table.title for table in report.details]


def test_the_figures_of_a_data_set_are_the_mean_of_its_scenes(tmp_path):
    root = tmp_path / "bench"
    for name, depth in (("tum/a", 1.0), ("tum/b", 2.0), ("adt/a", 4.0)):
        write_scene(root / "sparse" / name, depth=depth)
    result = score(root, tmp_path / "result", predict="constant").result
    values = {one["name"]: one["metrics"]["abs_rel"] for one in result["sequences"]}
    assert len(set(values.values())) == 3
    found = {name: one["abs_rel"] for name, one in result["data_sets"].items()}
    assert found == pytest.approx(
        {"tum": (values["tum/a"] + values["tum/b"]) / 2, "adt": values["adt/a"]}
    )


def test_a_scene_is_known_by_the_names_sizes_and_times_of_its_files_and_no_byte_is_read(tmp_path):
    write_scene(tmp_path / "scene")
    scene = BenchScene(tmp_path / "scene", READERS["tum"])
    depth = tmp_path / "scene/depths/1.png"
    before, status = scene.content(), depth.stat()

    depth.write_bytes(bytes(status.st_size))
    os.utime(depth, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert scene.content() == before  # the bytes alone are others
    os.utime(depth, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    touched = scene.content()
    depth.write_bytes(bytes(status.st_size + 1))
    os.utime(depth, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    longer = scene.content()
    depth.rename(depth.with_name("3.png"))
    assert len({before, touched, longer, scene.content()}) == 4


def test_changed_depth_is_another_scene_and_what_is_damaged_is_named(tmp_path):
    root = tmp_path / "bench"
    for name in ("a", "b", "empty"):
        write_scene(root / "sparse" / "tum" / name)
    for path in (root / "sparse/tum/empty/images").iterdir():
        path.unlink()
    (root / "sparse/tum/b/depths/1.png").write_bytes(b"no image")
    report = score(root, tmp_path / "result")
    assert report.result["views"] == 2 * FRAMES - 1
    reasons = {failure.item: failure.reason for failure in report.failed}
    assert len(reasons) == 2
    assert reasons[str(root / "sparse/tum/empty")] == "images/ has no image"
    assert str(root / "sparse/tum/b/images/1.png") in reasons
    assert score(root, tmp_path / "result").finished_before
    changed = np.full(SIZE, 4000, np.uint16)
    Image.fromarray(changed).save(root / "sparse/tum/a/depths/0.png")
    with pytest.raises(ConflictError):
        score(root, tmp_path / "result")
    with pytest.raises(InputMissingError, match="no scene"):
        score(tmp_path, tmp_path / "other")

"""`evaluate` on a small room under every protocol that can read it: the truth, and a plane."""

import shutil

import pytest
import torch
from posed_rooms import write_rendered_room
from scored_room import score

from distill3r_core.evaluation.pose_metrics import pose_metrics
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.scenes import arc, build_scene, pinhole, render_view

VIEWS, SIZE = 4, (28, 42)


def _reads_the_room(name: str) -> bool:
    """Whether a protocol takes any layout, and sequences as short as this one."""
    protocol = PROTOCOLS[name]
    too_short = protocol.sequences is not None and protocol.sequences.min_frames > VIEWS
    return protocol.reader is None and not too_short


RUNNABLE = sorted(name for name in PROTOCOLS if _reads_the_room(name))
OF_SEQUENCES = sorted(name for name in RUNNABLE if PROTOCOLS[name].alignment.places)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """An RGB-D tree of one room."""
    root = tmp_path_factory.mktemp("data") / "rooms"
    write_rendered_room(root / "one", 3, views=VIEWS, size=SIZE)
    return root


def _scored(room, tmp_path, protocol, predict):
    report = score(
        data=room, protocol=protocol, predict=predict, size="28x42", output=tmp_path / "out"
    )
    assert not report.failed and not report.finished_before
    assert report.result["protocol"] == protocol
    return report


def test_all_but_the_bench_of_its_own_form_and_that_of_long_sequences_read_the_room():
    assert set(PROTOCOLS) - set(RUNNABLE) == {
        "co3d-vggt",
        *(f"spatialbench-{density}" for density in ("single", "sparse", "medium", "dense")),
    }
    assert OF_SEQUENCES == ["cut3r", "fast3r", "lunar", "pi3-dense", "pi3-sparse", "spann3r"]


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_truth_is_perfect_beside_baselines_that_are_not(room, tmp_path, name):
    result = _scored(room, tmp_path, name, "truth").result
    metrics, plane = result["metrics"], result["baselines"]["constant_depth"]
    for metric in ("acc", "comp", "acc_mean", "comp_mean", "chamfer", "fused", "abs_rel"):
        if metric in metrics and name != "da3-bench":  # there chamfer is of a mesh
            assert metrics[metric] == pytest.approx(0, abs=1e-3), metric
    if "auc_30" in metrics:
        least = 0.99 if name == "co3d-fast3r" else 1.0  # its least error is 0.41 degrees
        assert metrics["auc_30"] >= least
    assert plane.keys() == metrics.keys()
    if name in OF_SEQUENCES:
        assert plane["acc"] is plane["comp"] is None  # a plane in front of cameras anywhere
    depth = [plane[metric] for metric in ("abs_rel", "depth_mae") if metric in plane]
    assert all(figure > 0.01 for figure in depth)
    if "auc_30" in metrics:
        placed = result["baselines"]["identity_poses"]
        assert 0 <= placed["auc_30"] < 1


def test_two_frames_at_one_place_are_a_failed_pair_that_is_counted_and_said(room, tmp_path):
    twice = tmp_path / "rooms"
    shutil.copytree(room, twice)
    for folder, suffix in (("rgb", "png"), ("depth", "png"), ("pose", "txt")):
        shutil.copy(
            twice / f"one/{folder}/000000.{suffix}", twice / f"one/{folder}/{VIEWS:06d}.{suffix}"
        )
    report = _scored(twice, tmp_path, "table2", "truth")
    assert report.result["pairs_without_baseline"] == 1
    assert report.result["metrics"]["auc_30"] == pytest.approx(0.9)  # 9 of 10 pairs
    assert any(note.startswith("1 pairs of views have no true baseline") for note in report.notes)
    assert report.result["rules"]["refinement"].startswith("none")


@pytest.mark.parametrize(("name", "count"), [("table2", 1), ("co3d-pi3", 1), ("da3-bench", 0)])
def test_pairs_at_one_place_are_counted_by_the_form_of_poses_of_the_protocol(tmp_path, name, count):
    """In DA3's form a pair that turns about one place has a translation, if away from the first."""
    root = tmp_path / "rooms"
    scene, intrinsics = build_scene(3), pinhole(SIZE)
    poses = arc(scene, VIEWS, seed=3)
    poses[3, :3, 3] = poses[2, :3, 3]
    views = [render_view(scene, pose, intrinsics, SIZE) for pose in poses]
    images, depths = (torch.stack(parts) for parts in zip(*views, strict=True))
    write_rgbd_scene(root / "one", images, depths, poses, intrinsics)
    report = _scored(root, tmp_path, name, "truth")
    assert report.result["pairs_without_baseline"] == count
    failed = sum("no true baseline" in note for note in report.notes)
    assert failed == count and report.result["metrics"]["auc_30"] == pytest.approx(1 - count / 6)


@pytest.mark.parametrize("name", RUNNABLE)
def test_what_places_no_view_is_scored_by_its_depth_and_named(room, tmp_path, name):
    report = _scored(room, tmp_path, name, "constant")
    result = report.result
    metrics = result["metrics"]
    assert result["baselines"]["constant_depth"] == metrics
    of_pairs = {metric.name for metric in pose_metrics(PROTOCOLS[name].poses)} & metrics.keys()
    lacking = of_pairs | ({"acc", "comp"} if name in OF_SEQUENCES else set())
    assert all(metrics[metric] is None for metric in lacking)
    # Every figure that is null says of which sequences.
    assert {metric for metric, figure in metrics.items() if figure is None} == set(
        result["missing"]
    )
    shown = {*PROTOCOLS[name].columns} & set(result["missing"])
    assert {note.split(":")[0] for note in report.notes if note.startswith("no ")} >= {
        f"no {metric}" for metric in shown
    }
    if "abs_rel" in metrics:
        assert metrics["abs_rel"] > 0.01

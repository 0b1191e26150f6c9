"""CO3D's protocols on a fabricated tree: which sequences and frames VGGT's evaluation takes."""

import gzip
import json

import numpy as np
import pytest
from PIL import Image
from trees import save_picture

from distill3r_core.data.layouts import Frame
from distill3r_core.evaluation.protocols.sequence_rules import SequenceRule
from distill3r_core.stages.evaluate import EvalSettings, evaluate, scored_model

SIZE = (42, 56)
FRAMES = 60
BROKEN = (6e4, 6e4, 1.0)  # sums up to more than 1e5
# The sum of the camera's center is below it, too: the rule is about the translation.
TURNED = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))


def drawn(generator, frames=FRAMES):
    return generator.choice(frames, 10, replace=False).tolist()


def write_category(root, name, sequences, *, empty_depth=()):
    """A category of CO3D: frames on a turn, without depth.

    Args:
        sequences: Number of frames of each sequence, and the frame whose translation is broken.
        empty_depth: Pairs of a sequence and a frame that has a depth map without a valid pixel.
    """
    annotations = []
    for sequence, (count, broken) in sequences.items():
        folder = root / name / sequence
        for index in range(count):
            file = f"frame{index + 1:06d}.jpg"
            save_picture(folder / "images" / file, index, SIZE)
            if (sequence, index) in empty_depth:
                (folder / "depths").mkdir(exist_ok=True)
                Image.fromarray(np.zeros(SIZE, np.uint16)).save(
                    folder / "depths" / f"{file}.geometric.png"
                )
            angle = 2 * np.pi * index / count
            turn = [
                [np.cos(angle), 0.0, np.sin(angle)],
                [0.0, 1.0, 0.0],
                [-np.sin(angle), 0.0, np.cos(angle)],
            ]
            viewpoint = {
                "R": TURNED if index == broken else turn,
                "T": BROKEN if index == broken else [0.1, 0.2, 3.0 + 0.5 * np.sin(3 * angle)],
                "focal_length": [2.0, 2.0],
                "principal_point": [0.0, 0.0],
                "intrinsics_format": "ndc_isotropic",
            }
            annotations.append(
                {
                    "sequence_name": sequence,
                    "frame_number": index,
                    "image": {"path": f"{name}/{sequence}/images/{file}", "size": list(SIZE)},
                    "depth": {"path": "x", "scale_adjustment": 1.0},
                    "viewpoint": viewpoint,
                }
            )
    with gzip.open(root / name / "frame_annotations.jgz", "wt") as file:
        json.dump(annotations, file)


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Scores the truth by a protocol; gives the report and the indices of the views it saw."""
    root, seen = tmp_path / "co3d", {}
    predict = scored_model.WITHOUT_MODEL["truth"]

    def spy(truth, *others):
        seen[truth.name] = [int(name.removeprefix("frame")) - 1 for name in truth.view_names]
        return predict(truth, *others)

    monkeypatch.setitem(scored_model.WITHOUT_MODEL, "truth", spy)

    def score(protocol):
        seen.clear()
        settings = EvalSettings(
            data=root,
            layout="co3d",
            protocol=protocol,
            predict="truth",
            size="42x56",
            device="cpu",
            output=tmp_path / protocol,
        )
        return evaluate(settings), dict(seen)

    return root, score


def test_vggt_draws_from_whole_sequences_alone_and_names_the_others(scored):
    root, score = scored
    first = drawn(np.random.RandomState(0))
    hidden = next(index for index in range(FRAMES) if index not in first)
    write_category(root, "apple", {"1_broken": (FRAMES, hidden), "2_short": (49, None)})
    write_category(
        root,
        "pear",
        {"3_whole": (FRAMES, None), "4_whole": (FRAMES + 7, None)},
        empty_depth=[("3_whole", first[2])],
    )
    report, seen = score("co3d-vggt")
    np.random.seed(0)
    wanted = [
        np.random.choice(frames, 10, replace=False).tolist() for frames in (FRAMES, FRAMES + 7)
    ]
    assert seen == dict(zip(("co3d/pear/3_whole", "co3d/pear/4_whole"), wanted, strict=True))
    reasons = {one.item: one.reason for one in report.failed}
    assert reasons.keys() == {"co3d/apple/1_broken", "co3d/apple/2_short"}
    assert f"frame{hidden + 1:06d} sums up to 1.2e+05" in reasons["co3d/apple/1_broken"]
    assert "49 frames, and 50" in reasons["co3d/apple/2_short"]
    assert report.result["views"] == 20  # those without valid depth, too
    assert report.result["metrics"]["auc_30"] == 1


def test_pi3_takes_short_and_broken_sequences(scored):
    root, score = scored
    write_category(root, "apple", {"1_broken": (12, 11), "2_short": (11, None)})
    report, seen = score("co3d-pi3")
    generator = np.random.RandomState(42)
    assert list(seen.values()) == [drawn(generator, 12), drawn(generator, 11)]
    assert report.failed == []


@pytest.mark.parametrize(
    ("translation", "broken"),
    [
        # In OpenCV's axes: x and y count with the other sign.
        ((-6e4, -6e4, 1.0), True),
        ((6e4, 6e4, 1.0), False),
        ((-2e5, 1.5e5, 0.0), False),
        ((0.0, 0.0, 1.1e5), True),
        ((0.0, 0.0, 0.9e5), False),
        ((float("nan"), 0.0, 2e5), False),  # no comparison is true
    ],
)
def test_the_translation_of_pytorch3d_decides_in_every_convention(tmp_path, translation, broken):
    rule = SequenceRule(min_frames=1, max_translation=1e5)
    pose = np.eye(4)
    pose[:3, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    pose[:3, 3] = translation
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    for stored, convention, axes in (
        (pose, "w2c", "opencv"),
        (np.linalg.inv(pose), "c2w", "opencv"),
        (flip @ pose, "w2c", "opengl"),
        (np.linalg.inv(pose) @ flip, "c2w", "opengl"),
    ):
        frame = Frame(
            "0", tmp_path / "0.png", pose=stored, pose_convention=convention, pose_axes=axes
        )
        whole = Frame("1", tmp_path / "1.png", pose=np.eye(4))
        problem = rule.problem([whole, frame, whole])
        assert (problem is not None) == broken, (convention, axes)
        assert problem is None or "frame 0" in problem

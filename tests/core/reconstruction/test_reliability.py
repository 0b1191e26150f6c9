"""The verdict on a reconstruction, and the calibration it rests on."""

from dataclasses import replace

import numpy as np
import pytest

from distill3r_core.models.feature_statistics import fit_features
from distill3r_core.models.reliability_calibration import ReliabilityCalibration
from distill3r_core.reconstruction.refinement.summary import RefinementSummary
from distill3r_core.reconstruction.reliability.verdict import MapChecks, judge, knows_depth

CALIBRATION = ReliabilityCalibration(
    windows=8,
    misfit=0.01,
    spread=0.05,
    agreement=0.5,
    novelty=1.2,
    features=None,
    depth_error=0.04,
    constant_error=0.2,
    rotation_error=3.0,
)
AS_HELD_OUT = MapChecks(misfit=0.01, spread=0.05, agreement=0.5, overlapping=1.0)


@pytest.mark.parametrize(
    ("changes", "novelty", "level", "reason"),
    [
        ({}, 1.2, "good", None),
        ({}, None, "good", None),
        ({"misfit": 0.005, "spread": 0.01, "agreement": 0.9}, 0.8, "good", None),
        ({}, 1.2 * 1.2, "worse", "unlike the training images"),
        ({}, 1.2 * 1.3, "unreliable", "unlike the training images"),
        ({"misfit": 0.02}, 1.2, "worse", "pinhole"),
        ({"misfit": 0.03}, 1.2, "unreliable", "pinhole"),
        ({"spread": 0.1}, 1.2, "worse", "local and global maps"),
        ({"spread": 0.2}, 1.2, "unreliable", "local and global maps"),
        ({"spread": 0.1, "aligned": 1.0}, 1.2, "worse", "local and global maps"),
        ({"spread": 0.1, "aligned": 0.5}, 1.2, "worse", "align with no other"),
        ({"spread": 0.2, "aligned": 1.0}, 1.2, "unreliable", "local and global maps"),
        ({"aligned": 1.0, "supported": 1.0}, 1.2, "good", None),
        ({"aligned": 1.0, "supported": 0.75}, 1.2, "worse", "25% of the aligned views"),
        ({"agreement": 0.3}, 1.2, "worse", "depths of two views"),
        ({"agreement": 0.02}, 1.2, "unreliable", "depths of two views"),
        ({"agreement": 0.0, "overlapping": 0.0}, 1.2, "unreliable", "same place"),
        ({"agreement": None, "overlapping": None}, 1.2, "good", None),
    ],
)
def test_the_level_follows_from_the_worst_check(changes, novelty, level, reason):
    found = judge(replace(AS_HELD_OUT, **changes), novelty, CALIBRATION)
    assert found.level == level
    assert (reason is None) == (not found.reasons)
    assert reason is None or reason in found.text


@pytest.mark.parametrize(("share", "level"), [(1.1, "good"), (1.6, "worse"), (3.1, "unreliable")])
def test_a_first_image_unlike_the_training_images_spoils_the_frame_of_all(share, level):
    found = judge(AS_HELD_OUT, 1.2, CALIBRATION, anchor_novelty=share * 1.2)
    assert found.level == level
    assert (level == "good") == ("the first image" not in found.text)
    assert found.as_plain()["checks"]["anchor_novelty"] == pytest.approx(share * 1.2)


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "unknown"),
        ({"misfit": 0.2}, "unreliable"),
        ({"spread": 0.5}, "unreliable"),
        ({"agreement": 0.01}, "unreliable"),
    ],
)
def test_without_calibration_nothing_is_good_and_contradictions_are_found(changes, level):
    assert judge(replace(AS_HELD_OUT, **changes), None, None).level == level


@pytest.mark.parametrize(
    ("anchor", "aligned", "level"),
    [(1.6, False, "unreliable"), (1.6, True, "worse"), (1.4, False, "worse")],
)
def test_a_first_image_that_is_foreign_and_aligns_with_none_leaves_no_frame(anchor, aligned, level):
    checks = replace(AS_HELD_OUT, aligned=0.9, anchor_aligned=aligned)
    assert judge(checks, 1.2, CALIBRATION, anchor_novelty=1.2 * anchor).level == level


def test_rotations_of_held_out_samples_are_expected_only_of_poses_that_were_not_refined():
    less = replace(AS_HELD_OUT, agreement=0.3)
    assert "° between views" in judge(less, 1.2, CALIBRATION).text
    assert "° between views" not in judge(replace(less, aligned=1.0), 1.2, CALIBRATION).text


def test_a_student_that_repeats_its_bad_held_out_samples_is_not_good():
    nothing_learned = replace(CALIBRATION, depth_error=0.19)
    assert judge(AS_HELD_OUT, 1.2, nothing_learned).level == "unreliable"
    disagreeing = replace(CALIBRATION, agreement=0.1)
    found = judge(replace(AS_HELD_OUT, agreement=0.1), 1.2, disagreeing)
    assert found.level == "worse"


def test_the_expected_error_grows_with_the_check_that_failed():
    found = judge(replace(AS_HELD_OUT, misfit=0.02), 1.2, CALIBRATION)
    assert "about 8% of the depth and 6.0° between views" in found.reasons[0]


def test_features_are_as_far_as_standard_deviations_say_whatever_their_axes():
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(12, 12)) * np.geomspace(1, 10, 12)
    seen = generator.normal(size=(5000, 12))
    statistics = fit_features((seen @ mixing + 5).astype(np.float32))
    assert statistics is not None
    for shift, wanted in ((0.0, 1.0), (3.0, 10**0.5)):  # E (x + 3)^2 = 10
        features = ((seen[None] + shift) @ mixing + 5).astype(np.float32)
        assert statistics.distances(features)[0] == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("features", [np.ones((100, 4)), np.ones((3, 4))])
def test_features_that_do_not_vary_give_no_statistics(features):
    assert fit_features(features.astype(np.float32)) is None


@pytest.mark.parametrize(
    ("changes", "novelty", "anchor", "knows"),
    [
        ({}, 1.2, 1.2, True),
        ({"agreement": 0.02, "spread": 0.9}, 1.2, 1.2, True),  # poses are what is to be mended
        ({"misfit": 0.03}, 1.2, 1.2, False),
        ({"misfit": None}, 1.2, 1.2, False),
        ({}, 1.2 * 1.3, 1.2, False),
        ({}, 1.2, 3.1 * 1.2, False),
    ],
)
def test_depth_is_known_whatever_the_poses_are(changes, novelty, anchor, knows):
    found = judge(replace(AS_HELD_OUT, **changes), novelty, CALIBRATION, anchor_novelty=anchor)
    assert knows_depth(found, CALIBRATION) == knows
    assert not knows_depth(found, None)
    assert not knows_depth(found, replace(CALIBRATION, depth_error=0.19))


def test_a_view_is_supported_where_it_agrees_half_as_an_accepted_pair_must():
    def supported(*shares):
        return RefinementSummary(agreements=shares).supported

    assert supported(0.9, 0.16, None) == 1  # a view that is not aligned does not count
    assert supported(0.9, 0.14, 0.5, 0.1) == 0.5
    assert supported(None, None) is None and supported() is None

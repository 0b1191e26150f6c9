"""Any model can be the one that a scene is reconstructed with."""

import numpy as np
import pytest
import torch
from exact_scene import picture

from distill3r_core import load_model, reconstruct
from distill3r_core.errors import InputMissingError, RequestError
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import build_student
from distill3r_core.prediction import Predictor
from distill3r_core.reconstruction.cameras.placements import map_intrinsics
from distill3r_core.reconstruction.prediction.forward_pass import view_maps_of
from distill3r_core.reconstruction.prediction.student_predictor import StudentPredictor
from distill3r_core.teachers import SyntheticTeacher
from distill3r_core.types import RawMaps, View

IMAGES = [picture((48, 64), seed=0), picture((64, 48), seed=1), picture((48, 64), seed=2)]


@pytest.fixture(scope="module")
def predictor() -> StudentPredictor:
    torch.manual_seed(0)
    return StudentPredictor(build_student("tiny").eval(), ImageFit(size=(28, 42)), name="toy")


def test_a_student_is_a_predictor_and_predicts_what_its_pass_in_a_scene_does(predictor):
    assert isinstance(predictor, Predictor)
    scene = reconstruct(IMAGES, predictor, pnp=False)
    steps = []
    raw = predictor.predict(
        [predictor.prepare(View(image=image)) for image in IMAGES],
        on_progress=lambda *step: steps.append(step),
    )
    for view, local, confidence in zip(
        scene.views, raw.points_local, raw.confidence_local, strict=True
    ):
        assert view.aligned is not None
        np.testing.assert_array_equal(view.aligned.local_map.points, local.numpy())
        np.testing.assert_array_equal(view.aligned.local_map.confidence, confidence.numpy())
    assert steps[-1] == ("heads", 6, 6)


def test_a_scene_by_a_teacher_has_the_cameras_that_the_teacher_knows():
    teacher = load_model("synthetic")
    scene = reconstruct(IMAGES, teacher, pnp=False)
    raw = teacher.predict(
        [
            SyntheticTeacher().prepare(View(image=image, sample="scene", index=index))
            for index, image in enumerate(IMAGES)
        ]
    )
    assert raw.global_from_local is not None and raw.intrinsics is not None
    for view, pose, k in zip(scene.views, raw.global_from_local, raw.intrinsics, strict=True):
        np.testing.assert_allclose(view.camera.world_from_cam[:3], pose.numpy(), atol=2e-3)
        # K is known, not fitted again; a picture may be cropped and squashed.
        placed = map_intrinsics(view.camera, view.loaded.fitted.placement)
        np.testing.assert_allclose(placed, k.numpy(), rtol=1e-6)
        assert view.camera.facts["focal_source"] == "the model's"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_that_a_model_declares_invalid_are_in_no_cloud(dtype):
    ones = torch.ones(2, 3)
    raw = RawMaps(
        points_local=[torch.arange(18.0).reshape(2, 3, 3)],
        confidence_local=[ones],
        confidence_global=[ones],
        valid_mask=[torch.tensor([[True, False, True], [True, True, False]])],
        global_from_local=2 * torch.eye(3, 4, dtype=dtype)[None],
    )
    (maps,) = view_maps_of(raw)
    assert maps.global_map is not None and maps.local_map is not None
    valid = np.array([[True, False, True], [True, True, False]])
    np.testing.assert_array_equal(np.isfinite(maps.global_map.points).all(-1), valid)
    np.testing.assert_array_equal(maps.global_map.points[valid], 2 * maps.local_map.points[valid])


def test_what_a_model_lacks_is_refused_by_its_name(predictor):
    with pytest.raises(InputMissingError, match="depth"):
        reconstruct(IMAGES, load_model("depth"))
    with pytest.raises(RequestError, match="synthetic"):
        reconstruct(IMAGES, load_model("synthetic"), head="local")
    with pytest.raises(RequestError, match="synthetic"):
        reconstruct(IMAGES, load_model("synthetic"), fit=ImageFit(size=(28, 42)))
    with pytest.raises(RequestError, match="3 views: small takes at most 2"):
        reconstruct(IMAGES, _OfFewViews())


class _OfFewViews(SyntheticTeacher):
    """Claims to take fewer views than it is given."""

    name = "small"
    max_views = 2

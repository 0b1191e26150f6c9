"""Scene students: their sizes, what a pixel's coordinates depend on, and the scenes' frames."""

import pytest
import torch

from distill3r_core.errors import ConfigError, RequestError, WeightsError
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.models import build_student, load_student, save_student
from distill3r_core.models.build import expected_tensors
from distill3r_core.models.encoders.encoder_files import fill_mobilenet
from distill3r_core.models.encoders.mobilenet import MobileNetEncoder
from distill3r_core.models.families import family_of, preset_spec
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.scene.frames import SPACING, network_from_scene, place_points
from distill3r_core.models.scene.pretrained import student_on_mobilenet
from distill3r_core.models.scene.spec import SceneFrame
from distill3r_core.nn.counts import total_flop
from distill3r_core.types import PointMaps

RELEASED = {"attention": "none", "edges": "drop", "positions": 1.0}
SMALL = {"width": 16, "depth": 2, "heads": 2, "head_width": 8, "dropout": 0.0}
NETWORKS = {
    "scene-cnn": {"width": 16},
    "scene-mobilenet": {},
    "scene-vit": SMALL,
}


def small(preset: str, **changes: object):
    network = {"network": {**NETWORKS[preset], **changes}}
    return build_student(preset, **network).eval()


# Parameters of arXiv:2412.02039's networks, and their bytes in float32 over a million as published.
@pytest.mark.parametrize(
    ("preset", "network", "parameters", "megabytes"),
    [
        ("scene-cnn", {}, 11_650_179, 46.6),
        ("scene-mobilenet", {}, 888_400, 3.6),
        ("scene-vit", RELEASED, 10_521_347, 42.1),
        ("scene-vit", {**RELEASED, "patch": 32}, 10_967_811, 43.9),
        ("scene-vit", {**RELEASED, "patch": 64}, 13_292_291, 53.2),
        ("scene-vit", {**RELEASED, "width": 128}, 3_165_059, 12.7),
    ],
)
def test_networks_have_the_published_numbers_of_parameters(preset, network, parameters, megabytes):
    with torch.device("meta"):
        student = build_student(preset, network=network)
    count = sum(parameter.numel() for parameter in student.parameters())
    assert count == pytest.approx(parameters, rel=1e-3)
    assert 4 * count / 1e6 == pytest.approx(megabytes, abs=0.05)


def test_layers_of_the_convolutional_network_add_up_by_hand():
    layers = [(3, 64, 25), (64, 128, 25), (128, 256, 25), (256, 512, 25), (512, 512, 1)]
    layers += [(512, 512, 25), (512, 512, 1), (512, 512, 1), (512, 3, 1)]
    wanted = sum(outputs * (inputs * area + 1) for inputs, outputs, area in layers)
    found = expected_tensors(preset_spec("scene-cnn")).values()
    assert sum(tensor.numel() for tensor in found) == wanted == 11_650_179


@pytest.mark.parametrize("preset", list(NETWORKS))
@pytest.mark.parametrize("size", [(37, 50), (32, 48), (5, 70)])
def test_sides_of_any_length_are_mapped_pixel_by_pixel(preset, size):
    maps = small(preset)(torch.rand(2, 3, 3, *size))
    assert isinstance(maps, PointMaps)
    assert maps.points_global is not None
    assert maps.points_global.shape == (2, 3, *size, 3)
    assert maps.points_local is None
    assert maps.confidence_global is not None
    assert (maps.confidence_global == 1).all()


@pytest.mark.parametrize("preset", list(NETWORKS))
def test_views_do_not_see_each_other(preset):
    student, images = small(preset), torch.rand(1, 3, 3, 32, 48)
    together, alone = student(images).points_global, student(images[:, 1:2]).points_global
    torch.testing.assert_close(together[:, 1:2], alone, rtol=1e-4, atol=1e-5)
    listed = student([images[0, 1], torch.rand(3, 20, 20)])
    torch.testing.assert_close(listed[0].points_global, alone[0], rtol=1e-4, atol=1e-5)
    assert listed[1].points_global.shape == (1, 20, 20, 3)


def seen_by(student, size, pixel):
    """Pixels that the coordinates of one pixel depend on."""
    images = torch.rand(1, 1, 3, *size, requires_grad=True)
    student(images).points_global[0, 0, *pixel].sum().backward()
    return images.grad[0, 0].abs().sum(0) > 0


def test_a_pixel_of_the_convolutional_network_sees_21_pixels():
    # Rectifiers stop some gradients: every weight is positive here.
    student = small("scene-cnn")
    for parameter in student.network.parameters():
        parameter.data.abs_()
    student.mean.zero_()
    seen = seen_by(student, (41, 41), (20, 20))
    rows = seen.any(1).nonzero().flatten()
    assert (rows.min(), rows.max()) == (10, 30)


def test_patches_see_each_other_only_with_attention():
    size, pixel = (32, 48), (4, 4)
    assert seen_by(small("scene-vit"), size, pixel).all()
    released = seen_by(small("scene-vit", **RELEASED), size, pixel)
    assert released[:16, :16].any()
    assert not released[16:].any()
    assert not released[:, 16:].any()


def test_the_released_form_leaves_the_last_rows_unseen_and_stretches_its_output():
    image = torch.rand(1, 1, 3, 38, 32)
    changed = image.clone()
    changed[..., 32:, :] = 0
    released, ours = small("scene-vit", **RELEASED), small("scene-vit")
    with torch.no_grad():
        assert torch.equal(released(image).points_global, released(changed).points_global)
        assert not torch.equal(ours(image).points_global, ours(changed).points_global)
    with pytest.raises(RequestError, match="smaller than a patch"):
        released(torch.rand(1, 1, 3, 10, 32))


def test_frames_of_several_scenes_come_back_from_the_network_frame():
    frames = (
        SceneFrame(name="a", center=(1.0, 2.0, 3.0), scale=2.0),
        SceneFrame(name="b", center=(-4.0, 0.0, 1.0), scale=0.5),
    )
    points = torch.randn(2, 4, 6, 3, dtype=torch.float64)  # one view in each scene
    true = torch.stack(
        [points[i] * frame.scale + torch.tensor(frame.center) for i, frame in enumerate(frames)]
    )
    network = torch.stack(
        [apply_similarity(network_from_scene(frames, i), true[i]) for i in (0, 1)]
    )
    torch.testing.assert_close(network[0], points[0])
    torch.testing.assert_close(network[1], points[1] + torch.tensor([SPACING, 0.0, 0.0]).double())
    torch.testing.assert_close(place_points(network, frames), true)


def test_the_frames_are_stored_with_the_weights(tmp_path):
    spec = preset_spec("scene-vit", {"network": SMALL})
    student = family_of(spec).build(spec)
    frame = SceneFrame(name="7scenes/redkitchen", center=(0.1, -2.0, 1 / 3), scale=1.7, metric=True)
    student.spec = type(spec)(network=spec.network, scenes=(frame,))
    save_student(tmp_path / "model.safetensors", student, StudentMetadata("x", spec, (32, 48)))
    loaded = load_student(tmp_path / "model.safetensors")
    assert loaded.spec.scenes == (frame,)
    images = torch.rand(1, 1, 3, 32, 48)
    with torch.no_grad():
        plain = loaded(images)
        placed = loaded.placed(plain).points_global
    torch.testing.assert_close(placed, plain.points_global * 1.7 + torch.tensor(frame.center))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_frame_without_a_size_is_refused(scale):
    scene = {"name": "a", "center": [0.0, 0.0, 0.0], "scale": scale}
    with pytest.raises(ConfigError, match="scale"):
        preset_spec("scene-vit", {"scenes": [scene]})


def test_twice_the_views_are_twice_the_arithmetic():
    spec = preset_spec("scene-vit")
    flop = family_of(spec).cost.flop
    once, twice = (total_flop(flop(spec, views, (112, 154))) for views in (1, 2))
    assert twice == 2 * once
    # By hand, of 7 x 10 patches and a class token at width 256, 12 blocks, 17248 pixels.
    products = 71 * 12 * 12 * 256**2 + 70 * 768 * 256 + 70 * 256 * 512
    pixels = 112 * 154 * (2 * 512**2 + 3 * 512)
    attention = 12 * 2 * 71**2 * 256
    assert once == 2 * (products + pixels + attention)


def test_a_trunk_starts_from_a_file_of_that_network_alone(tmp_path):
    from safetensors.torch import save_file

    spec = preset_spec("scene-mobilenet")
    donor = family_of(spec).build(spec)
    stored = {
        name: torch.rand_like(tensor)
        for name, tensor in donor.network.trunk.state_dict().items()
        if tensor.is_floating_point()
    }
    save_file({**stored, "classifier.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    student = student_on_mobilenet(tmp_path, spec)
    assert student.spec.normalization == "imagenet"
    # The trunk is the encoder of pair students, which gives the same numbers from the same file.
    encoder = MobileNetEncoder()
    fill_mobilenet(encoder, tmp_path)
    images = torch.rand(1, 3, 32, 48)
    torch.testing.assert_close(student.network.trunk.eval()(images), encoder.eval()(images))
    found = student.network.trunk.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in stored.items())
    save_file({**stored, "conv_stem.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"conv_stem\.weight: \(3,\) instead of"):
        student_on_mobilenet(tmp_path / "other.safetensors", spec)

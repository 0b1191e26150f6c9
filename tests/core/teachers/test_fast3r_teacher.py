import copy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fast3r_folders import CONFIG, hub_tensors, official_tensors, write_folder

from distill3r_core.errors import ConfigError, WeightsError
from distill3r_core.teachers import Teacher, build_teacher, make_targets
from distill3r_core.types import View


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("hub") / "fast3r", hub_tensors())


@pytest.fixture(scope="module")
def teacher(folder):
    return build_teacher("fast3r", folder)


@pytest.fixture(scope="module")
def prepared(teacher):
    generator = np.random.default_rng(0)
    views = []
    for index in range(3):
        image = generator.integers(0, 255, (32, 48, 3), dtype=np.uint8)
        views.append(View(image=image, sample="photos/castle/000", index=index))
    return [small(teacher.prepare(view)) for view in views]


def small(view):
    """The same view at 32 x 48, for a forward pass of milliseconds."""
    return replace(view, image=view.image[:, ::10, ::10][:, :32, :48].contiguous())


def test_it_is_a_teacher_that_masks_by_the_papers_threshold(teacher):
    assert isinstance(teacher, Teacher)
    assert (teacher.name, teacher.threshold, teacher.metric) == ("fast3r", 0.3, False)
    assert (teacher.fit.long_edge, teacher.fit.multiple) == (512, 16)
    assert "Noncommercial" in teacher.licenses[0]


@pytest.mark.parametrize(
    ("source", "seen"),
    [((480, 640), (384, 512)), ((640, 480), (512, 384)), ((300, 1000), (144, 512))],
)
def test_a_picture_is_prepared_as_the_original_does(teacher, source, seen):
    view = View(image=np.zeros((*source, 3), dtype=np.uint8))
    prepared = teacher.prepare(view)
    assert tuple(prepared.image.shape) == (3, *seen)
    assert prepared.placement.size == seen


def test_the_maps_become_targets(teacher, prepared):
    exported = make_targets(teacher.predict(prepared), size=(28, 42), threshold=0.3)
    assert exported.targets.points_local.shape == (3, 28, 42, 3)
    assert (exported.targets.confidence_local >= 1).all()
    assert exported.targets.valid_mask.any()


def test_a_sample_gets_the_same_maps_in_every_run(teacher, prepared, folder):
    first = teacher.predict(prepared).points_local
    torch.manual_seed(99)
    again = build_teacher("fast3r", folder).predict(prepared).points_local
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_view_codes_follow_the_samples_name_the_seed_and_the_configuration(
    teacher, prepared, folder
):
    usual = teacher._numbers(prepared).tolist()
    elsewhere = [replace(view, sample="photos/tree/000") for view in prepared]
    assert usual[0][0] == 0
    assert len(set(usual[0])) == 3
    assert teacher._numbers(elsewhere).tolist() != usual
    assert build_teacher("fast3r", folder, seed=1)._numbers(prepared).tolist() != usual
    ordered = build_teacher("fast3r", folder, view_codes="sequential")
    assert ordered._numbers(prepared).tolist() == [[0, 1, 2]]
    assert ordered.settings == {"seed": 0, "view_codes": "sequential", "precision": "auto"}


@torch.inference_mode()
def test_the_size_of_a_chunk_changes_no_number(teacher, prepared):
    images, numbers = [2 * view.image[None] - 1 for view in prepared], torch.tensor([[0, 7, 3]])
    together, alone = (teacher.network(images, numbers, head_chunk=size) for size in (25, 1))
    for ours, theirs in zip(alone, together, strict=True):
        torch.testing.assert_close(ours.local_maps.points, theirs.local_maps.points)
        torch.testing.assert_close(ours.global_maps.points, theirs.global_maps.points)


@torch.inference_mode()
def test_other_views_may_change_places_if_they_keep_their_numbers(teacher, prepared):
    images = [2 * view.image[None] - 1 for view in prepared]
    usual = teacher.network(images, torch.tensor([[0, 7, 3]]))
    swapped = teacher.network([images[i] for i in (0, 2, 1)], torch.tensor([[0, 3, 7]]))
    for index, place in enumerate((0, 2, 1)):
        torch.testing.assert_close(
            swapped[place].global_maps.points,
            usual[index].global_maps.points,
            rtol=1e-3,
            atol=1e-4,
        )


def test_a_single_view_is_its_own_anchor(teacher, prepared):
    exported = make_targets(teacher.predict(prepared[:1]), size=(28, 42), threshold=0.3)
    assert exported.targets.valid_mask.any()


def test_views_of_different_sizes_keep_them(teacher, prepared):
    portrait = replace(prepared[1], image=prepared[1].image.mT.contiguous())
    raw = teacher.predict([prepared[0], portrait])
    assert [tuple(points.shape[:2]) for points in raw.points_local] == [(32, 48), (48, 32)]


def test_either_name_of_an_alias_and_the_prefix_of_lightning_give_the_same_network(
    teacher, prepared, tmp_path
):
    expected = teacher.predict(prepared).points_global[1]
    both = official_tensors()
    variants = {
        "second names": {n: v for n, v in both.items() if not ("layer" in n and "_rn.weight" in n)},
        "both, prefixed": {f"net.{name}": v.clone() for name, v in both.items()},
    }
    for name, tensors in variants.items():
        found = build_teacher("fast3r", write_folder(tmp_path / name, tensors)).predict(prepared)
        assert torch.equal(found.points_global[1], expected), name
        shutil.rmtree(tmp_path / name)


def test_a_lightning_checkpoint_beside_the_configuration_is_read(
    teacher, prepared, folder, tmp_path
):
    shutil.copy(folder / "config.json", tmp_path)
    state = {f"net.{name}": value for name, value in hub_tensors().items()}
    state["loss.weight"] = torch.ones(1)  # not the network's
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    found = build_teacher("fast3r", tmp_path / "last.ckpt").predict(prepared)
    assert torch.equal(found.points_local[0], teacher.predict(prepared).points_local[0])


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_hostile_checkpoint_is_refused_and_not_executed(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    torch.save({"state_dict": Hostile(tmp_path / "owned")}, tmp_path / "last.ckpt")
    with pytest.raises(WeightsError, match="refused"):
        build_teacher("fast3r", tmp_path / "last.ckpt")
    assert not (tmp_path / "owned").exists()


def test_a_missing_an_unknown_and_a_misshapen_tensor_are_named_together(tmp_path):
    tensors = hub_tensors()
    del tensors["decoder.dec_norm.weight"]
    tensors["encoder.enc_norm.bias"] = torch.zeros(7)
    tensors["decoder.mystery"] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        build_teacher("fast3r", write_folder(tmp_path, tensors))
    for words in (
        "missing: decoder.dec_norm.weight", "unknown: decoder.mystery",
        "encoder.enc_norm.bias: (7,) instead of (32,)",
    ):  # fmt: skip
        assert words in caught.value.message


def test_a_file_that_is_cut_short_is_refused(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    with (folder / "model.safetensors").open("rb") as whole:
        (tmp_path / "model.safetensors").write_bytes(whole.read(100_000))
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        build_teacher("fast3r", tmp_path)


def test_a_folder_that_lacks_a_file_is_refused_by_the_files_name(folder, tmp_path):
    with pytest.raises(WeightsError, match=r"model\.safetensors and config\.json"):
        build_teacher("fast3r", tmp_path)
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(WeightsError, match=r"weights: model\.safetensors not found"):
        build_teacher("fast3r", tmp_path)
    with pytest.raises(WeightsError, match="no file or folder"):
        build_teacher("fast3r", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("encoder_args", "pos_embed", "cosine"),
        ("encoder_args", "patch_embed_cls", "Mystery"),
        ("head_args", "depth_mode", ["linear", -1, 1]),
        ("head_args", "with_local_head", False),
        ("decoder_args", "depth", "six"),
        ("decoder_args", "enc_embed_dim", 48),
        ("decoder_args", "num_heads", 5),
        ("encoder_args", "num_heads", 3),
        ("head_args", "patch_size", 14),
    ],
)
def test_a_configuration_of_another_network_is_refused_by_its_key(tmp_path, section, key, value):
    config = copy.deepcopy(CONFIG)
    config[section][key] = value
    with pytest.raises(WeightsError, match=rf"{section}\.{key}"):
        build_teacher("fast3r", write_folder(tmp_path, {"x": torch.zeros(1)}, config))


def test_a_configuration_that_is_no_json_is_refused(folder, tmp_path):
    write_folder(tmp_path, {"x": torch.zeros(1)}, ["not", "a", "mapping"])
    with pytest.raises(WeightsError, match="lacks encoder_args"):
        build_teacher("fast3r", tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot read"):
        build_teacher("fast3r", tmp_path)


def test_an_unknown_precision_is_refused_before_the_file_is_read(folder):
    with pytest.raises(ConfigError, match="precision: 'half' is unknown"):
        build_teacher("fast3r", folder, precision="half")


def test_bfloat16_gives_finite_maps_near_those_of_float32(teacher, prepared, folder):
    exact = teacher.predict(prepared)
    rough = build_teacher("fast3r", folder, precision="bfloat16").predict(prepared)
    for ours, theirs in zip(rough.points_local, exact.points_local, strict=True):
        assert ours.dtype == torch.float32
        assert ours.isfinite().all()
        assert (ours - theirs).abs().max() < 0.03 * theirs.abs().max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_a_gpu_gives_finite_maps_near_those_of_the_cpu(teacher, prepared, folder, precision):
    exact = teacher.predict(prepared)
    fast = build_teacher("fast3r", folder, device="cuda", precision=precision).predict(prepared)
    for ours, theirs in zip(fast.points_global or (), exact.points_global or (), strict=True):
        assert ours.device.type == "cpu"
        assert ours.isfinite().all()
        assert (ours - theirs).abs().max() < 0.03 * theirs.abs().max()


MEASURE = """
import re, sys, time
from pathlib import Path
import torch
from distill3r_core import build_teacher
from distill3r_core.teachers.fast3r_config import Fast3RConfig
from distill3r_core.teachers.fast3r_files import build_network
build_network(Fast3RConfig(encoder_depth=1, decoder_depth=4))  # loads what torch needs for it
def peak():
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status).group(1)) * 1024
before, start = peak(), time.perf_counter()
teacher = build_teacher("fast3r", sys.argv[1])
seconds = time.perf_counter() - start
parameters = list(teacher.network.parameters())
total = sum(float(p.sum()) for p in parameters)  # every page of the file is now in memory
size = sum(p.numel() * p.element_size() for p in parameters)
print((peak() - before) / size, seconds, size // 4)
"""


def measure(folder: Path) -> tuple[float, float, int]:
    """In a process of its own: memory over the weights' size, seconds to load, parameters."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    ratio, seconds, parameters = done.stdout.split()
    return float(ratio), float(seconds), int(parameters)


def test_a_network_is_never_in_memory_twice(folder):
    assert 0.9 < measure(folder)[0] < 1.3


@pytest.mark.slow
def test_the_released_size_is_never_in_memory_twice_either(tmp_path, capsys):
    config = copy.deepcopy(CONFIG)
    for section in ("encoder_args", "decoder_args"):
        config[section] |= {"embed_dim": 1024, "depth": 24, "num_heads": 16}
    config["decoder_args"]["enc_embed_dim"] = 1024
    folder = write_folder(tmp_path / "hub", hub_tensors(config=config), config)
    ratio, seconds, parameters = measure(folder)
    shutil.rmtree(folder)  # pytest would keep its 2.6 GB for three more runs
    with capsys.disabled():
        print(f"\nloaded in {seconds:.1f} s, peak memory {ratio:.2f} x the weights")
    assert parameters == 647_551_368
    assert 0.9 < ratio < 1.3

"""Pair students are trained as the others are: batches, resumption, means of batch norms."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_caches import made_sample

from distill3r_core import config
from distill3r_core.data.loading.batches import Batch, Draw, map_targets
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import ConfigError, WeightsError
from distill3r_core.io.checksums import file_hash
from distill3r_core.losses import LossSettings, Objective
from distill3r_core.models import StudentMetadata, build_student, load_student, save_student
from distill3r_core.models.build import build_from_spec
from distill3r_core.models.checkpoint import find_student, read_metadata
from distill3r_core.models.families import family_of, train_presets
from distill3r_core.models.family import Initializer
from distill3r_core.models.tokens.chunks import ENCODER_TOKENS
from distill3r_core.report import Silent
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.stages.train import student as starts
from distill3r_core.stages.train.image_pairs import training_pairs
from distill3r_core.stages.train.student import freeze_unused, start_student
from distill3r_core.training.settings import ComputeSettings
from distill3r_core.training.step import accumulate, recorded_outputs

MakeCache = Callable[..., Path]
SIZES = ((32, 48),) * 4
CNN = "model.encoder={kind: cnn}"


def settings(cache: Path, run: Path, *sets: str, **options: Any) -> TrainSettings:
    given = {"preset": "pair-tiny", "cache": cache, "output": run, "max_steps": 4, **options}
    every = ["checkpoint.every_steps=2", "data.batch=2", *sets]
    return config.resolve(
        TrainSettings, section="train", options=given, sets=every, presets=train_presets()
    )


@pytest.mark.parametrize("encoder", [(), (CNN,)])
def test_a_run_of_pairs_resumes_to_the_bit(
    make_cache: MakeCache, tmp_path: Path, encoder: tuple[str, ...]
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=SIZES)
    train(settings(cache, tmp_path / "whole", *encoder))
    train(settings(cache, tmp_path / "parts", *encoder, max_hours=1e-9))  # one step
    train(settings(cache, tmp_path / "parts", *encoder), resume=True)
    files = [
        (tmp_path / run / "checkpoints" / "last" / "model.safetensors").read_bytes()
        for run in ("whole", "parts")
    ]
    assert files[0] == files[1]
    student = load_student(tmp_path / "whole")
    assert student.spec.family == "pairs"
    with torch.no_grad():
        assert student(torch.rand(1, 3, 3, 32, 48)).points_global.isfinite().all()


def test_a_run_keeps_its_normalization_when_the_encoder_file_has_gone(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, file = make_cache(tmp_path / "cache", sizes=SIZES), tmp_path / "encoder.safetensors"
    file.touch()
    encoder = Initializer(
        name="an encoder",
        find=lambda: file if file.exists() else None,
        missing=lambda: WeightsError("no such file"),
        build=lambda path, spec: build_from_spec(replace(spec, normalization="imagenet")),
        license="a license",
    )
    monkeypatch.setattr(
        starts,
        "family_of",
        lambda spec: replace(family_of(spec), initializers=lambda spec: (encoder,)),
    )
    train(settings(cache, tmp_path / "whole"))
    train(settings(cache, tmp_path / "parts", max_hours=1e-9))
    file.unlink()
    silent = Silent()
    train(settings(cache, tmp_path / "parts"), resume=True, progress=silent)
    assert not any("from scratch" in note for note in silent.notes)
    files = [
        (tmp_path / run / "checkpoints" / "last" / "model.safetensors").read_bytes()
        for run in ("whole", "parts")
    ]
    assert files[0] == files[1]  # description included: spec, origin and licenses
    assert load_student(tmp_path / "parts").spec.normalization == "imagenet"  # type: ignore[attr-defined]


@pytest.mark.parametrize("layer", ["encoder", "adapter"])
def test_tokens_of_an_encoder_that_takes_views_a_few_at_a_time_are_those_of_all(
    layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = build_student("pair-tiny").eval()
    images = torch.rand(2, 3, 3, 32, 48)
    with recorded_outputs(student, [layer]) as whole:
        student(images)
    monkeypatch.setitem(ENCODER_TOKENS, "cpu", 4 * 6)  # four views of six patches, then two
    with torch.no_grad(), recorded_outputs(student, [layer]) as parts:
        student(images)
    torch.testing.assert_close(parts[layer], whole[layer].detach())


def test_micro_batches_add_up_to_the_gradient_of_the_batch() -> None:
    samples = [made_sample(seed, views=2, size=(32, 48)) for seed in range(4)]
    targets = map_targets(samples[0][1], lambda values: torch.stack([values] * 4))
    batch = Batch(
        images=torch.stack([images for images, _ in samples]),
        targets=targets,
        view_numbers=torch.arange(2).expand(4, 2),
        colors=None,
        draws=tuple(Draw(f"made/{number}", number) for number in range(4)),
    )
    objective = Objective(config.validate(LossSettings, {}, source="a test").all_terms)
    found = []
    for micro_batch in (4, 1):
        torch.manual_seed(0)
        student = build_student("pair-tiny").train()
        accumulate(
            student,
            objective,
            batch,
            micro_batch=micro_batch,
            compute=ComputeSettings(),
            bfloat16=False,
        )
        found.append({n: p.grad for n, p in student.named_parameters() if p.grad is not None})
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)


def test_finding_unused_weights_leaves_running_means_alone() -> None:
    student = build_student("pair-tiny", encoder={"kind": "cnn"}).train()
    before = {name: value.clone() for name, value in student.named_buffers()}
    freeze_unused(student)
    assert student.training
    assert all(torch.equal(value, before[name]) for name, value in student.named_buffers())
    assert all(parameter.requires_grad for parameter in student.encoder.parameters())


def test_an_encoder_from_scratch_is_said_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path))  # no weights are there
    silent = Silent()
    start = start_student(settings(tmp_path, tmp_path / "run", CNN), silent)
    (said,) = silent.notes
    assert said.startswith("WARNING: the encoder starts from scratch, not from mobilenetv3-large")
    assert "distill3r models download mobilenetv3-large" in said
    assert "its encoder too" in start.description
    quiet = Silent()
    start_student(settings(tmp_path, tmp_path / "run", CNN, "encoder_weights=none"), quiet)
    assert not quiet.notes
    frozen = Silent()
    start_student(settings(tmp_path, tmp_path / "run", CNN, "optim.freeze=[encoder]"), frozen)
    assert frozen.notes[1] == "WARNING: the encoder has random weights, and optim.freeze keeps them"
    thawed = Silent()
    for_a_while = ("optim.freeze=[encoder]", "optim.freeze_steps=10", "encoder_weights=none")
    start_student(settings(tmp_path, tmp_path / "run", CNN, *for_a_while), thawed)
    assert not thawed.notes


def test_an_encoder_that_is_no_longer_the_published_one_is_said_loudly(tmp_path: Path) -> None:
    silent = Silent()
    other = ("model.encoder.depth=1", "model.decoder={width: 32, depth: 2, heads: 2}")
    start_student(settings(tmp_path, tmp_path / "run", *other, preset="lunar-s2"), silent)
    (said,) = silent.notes
    assert said.startswith("WARNING: the encoder starts from scratch: with these settings it is")


def test_a_weight_file_says_what_it_started_from_and_under_which_licenses(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    teacher, file = build_student("pair-tiny"), tmp_path / "larger.safetensors"
    metadata = StudentMetadata("pair-tiny", teacher.spec, (32, 48), licenses=("a license",))
    save_student(file, teacher, metadata)
    cache, run = make_cache(tmp_path / "cache", sizes=SIZES), tmp_path / "run"
    start = ("init=svd", f"init_from={file}", "model.decoder.depth=2")
    train(settings(cache, run, *start, max_steps=1))
    found = read_metadata(run / "checkpoints/last/model.safetensors")
    assert (
        f"init svd of larger.safetensors ({file_hash(file)}): decoder blocks 0, 2" in found.origin
    )
    assert "tensors whole" in found.origin
    assert "a license" in found.licenses


def test_a_basis_is_measured_on_pairs_of_the_cache(make_cache: MakeCache, tmp_path: Path) -> None:
    teacher, file = build_student("pair-tiny"), tmp_path / "larger.safetensors"
    save_student(file, teacher, StudentMetadata("pair-tiny", teacher.spec, (32, 48)))
    cache = make_cache(tmp_path / "cache", sizes=SIZES)  # four training samples of four views
    start = (f"init_from={file}", "model.decoder.depth=2", "init_images=10")
    train(settings(cache, tmp_path / "run", *start, max_steps=1))
    assert "basis measured on 10 images" in read_metadata(find_student(tmp_path / "run")).origin
    pairs = training_pairs(
        CacheUnion.open([cache]), 1000, size=None, device=torch.device("cpu")
    ).images
    assert pairs.shape == (4 * 3, 2, 3, 32, 48)  # all that there are
    assert torch.equal(pairs[0, 1], pairs[1, 0])  # neighbors of a sample
    with pytest.raises(ConfigError, match="init svd measures nothing"):
        train(settings(cache, tmp_path / "other", *start, "init=svd"))


def test_images_to_measure_on_are_refused_where_the_decoder_is_copied(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    teacher, file = build_student("pair-tiny"), tmp_path / "larger.safetensors"
    save_student(file, teacher, StudentMetadata("pair-tiny", teacher.spec, (32, 48)))
    cache = make_cache(tmp_path / "cache", sizes=SIZES)
    start = ("init=subspace", f"init_from={file}", "init_images=10")
    with pytest.raises(ConfigError, match=r"init_images: .* copied whole"):
        train(settings(cache, tmp_path / "run", *start))


FEATURE = "loss.terms.feature={weight: 0.1}"


@pytest.mark.parametrize(
    ("preset", "sets"),
    [("tiny", ()), ("pair-tiny", ("model.adapter=false",)), ("scene-vit", ("scene=made/00",))],
)
def test_a_term_of_features_names_a_part_that_the_student_lacks(
    make_cache: MakeCache, tmp_path: Path, preset: str, sets: tuple[str, ...]
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=((112, 112),) * 4, features={"enc_norm": 5})
    wanted = settings(cache, tmp_path / "run", FEATURE, *sets, preset=preset)
    with pytest.raises(ConfigError, match="the student's part 'adapter', which it has not") as told:
        train(wanted)
    assert "one of its parts" in str(told.value.hint)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("term", ["feature", "relational"])
def test_features_are_compared_in_passes_of_bfloat16(
    make_cache: MakeCache, tmp_path: Path, term: str
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=SIZES, features={"enc_norm": 5})
    weight = f"loss.terms.{term}={{weight: 0.1}}"
    run = tmp_path / "run"
    train(settings(cache, run, weight, "compute.precision=bfloat16", max_steps=1))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[0][f"loss_{term}"] > 0


def test_a_cache_of_another_patch_is_read_at_the_nearest_smaller_size(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=((42, 56),) * 4)  # patches of 14
    silent = Silent()
    train(settings(cache, tmp_path / "run", max_steps=1), progress=silent)
    (said,) = [note for note in silent.notes if "42x56" in note and "smaller" in note]
    assert said.endswith("training at 32x48")
    metadata = read_metadata(find_student(tmp_path / "run"))
    assert metadata is not None and metadata.size == (32, 48)
    # Those weights are started from at the same size.
    again = {"preset": "pair-tiny", "start": tmp_path / "run", "max_steps": 1}
    train(settings(cache, tmp_path / "again", **again))
    assert read_metadata(find_student(tmp_path / "again")).size == (32, 48)
    with pytest.raises(ConfigError, match=r"data\.size: 28x42 has .* the nearest is 32x48"):
        train(settings(cache, tmp_path / "other", "data.size=28x42"))


@pytest.mark.parametrize(("metric", "unit"), [(True, "m"), (False, "none")])
def test_distances_in_the_teachers_unit_teach_meters(
    make_cache: MakeCache, tmp_path: Path, metric: bool, unit: str
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=SIZES, metric=metric)
    letter = ("loss.terms={scale: {weight: 0}, regression: {confidence: student}}",)
    train(settings(cache, tmp_path / "run", *letter, max_steps=1))
    metadata = read_metadata(find_student(tmp_path / "run"))
    assert metadata is not None and metadata.unit == unit
    free = ("loss.terms={scale: {weight: 0}, regression: {normalize: true}}",)
    train(settings(cache, tmp_path / "free", *free, max_steps=1))
    metadata = read_metadata(find_student(tmp_path / "free"))
    assert metadata is not None and metadata.unit == "none"


def test_a_size_that_is_predicted_apart_needs_the_term_that_teaches_it(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache")
    by_points = "loss.terms={scale: {weight: 0}, regression: {weight: 1}}"
    options = {"preset": "tiny", "max_steps": 1}
    train(settings(cache, tmp_path / "run", by_points, **options))
    metadata = read_metadata(find_student(tmp_path / "run"))
    assert metadata is not None and metadata.unit == "m"
    assert metadata.spec.map_size == "free"  # regression teaches the points' own size
    with pytest.raises(ConfigError, match="nothing teaches it, as the run has no term `scale`"):
        train(settings(cache, tmp_path / "apart", by_points, "model.map_size=predicted", **options))

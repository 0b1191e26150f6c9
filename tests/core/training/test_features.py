"""A term that compares features: read or computed, and trained beside the student."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
import torch
from pydantic.dataclasses import dataclass
from safetensors import safe_open
from small_caches import depth_maps, made_features, made_sample
from torch import nn
from torch.nn import functional

from distill3r_core import config
from distill3r_core.cache.store import TeacherCache
from distill3r_core.config import STRICT
from distill3r_core.data.loading.batches import Batch, Draw, map_targets
from distill3r_core.data.loading.loader import RingLoader
from distill3r_core.data.loading.sample_requests import SampleRequest
from distill3r_core.data.loading.teacher_features import CachedFeatures, LiveFeatures
from distill3r_core.errors import CacheError, ConfigError
from distill3r_core.losses import LossSettings, Objective
from distill3r_core.losses.loss_term import FeatureRequest, LossTerm, TermInputs, TermOptions
from distill3r_core.losses.terms import LOSS_TERMS
from distill3r_core.models import build_student
from distill3r_core.models.families import train_presets
from distill3r_core.registry import Origin, adding_from, remove_entries_of
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.training import checkpoints
from distill3r_core.training.metrics_log import read_metrics
from distill3r_core.training.settings import ComputeSettings
from distill3r_core.training.step import accumulate, build_optimizer

MakeCache = Callable[..., Path]
ELSEWHERE = Origin("plugin", "feature_term.py")
CHANNELS = 5


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SimilarityOptions(TermOptions):
    layer: str = "deep"
    channels: int = CHANNELS


class Similarity(nn.Module):
    """One minus the cosine of the mean features of a view, through a projector of its own."""

    def __init__(self, options: SimilarityOptions) -> None:
        super().__init__()
        self.layer = options.layer
        self.projector = nn.LazyLinear(options.channels, bias=False)
        self.projector(torch.zeros(1, 192))  # the width of `tiny`

    def forward(self, inputs: TermInputs) -> torch.Tensor:
        teacher = inputs.teacher_features[self.layer].mean((2, 3))  # (B, N, C)
        tokens = inputs.student_features["encoder"]
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        student = self.projector(tokens.reshape(*teacher.shape[:2], -1, 192).mean(2))
        return 1 - functional.cosine_similarity(student, teacher, dim=-1).mean()


@pytest.fixture(autouse=True)
def term() -> Iterator[str]:
    with adding_from(ELSEWHERE):
        record = LossTerm(
            label="similarity",
            summary="Cosine of features.",
            options=SimilarityOptions,
            build=Similarity,
            features=lambda options: FeatureRequest((options.layer,), ("encoder",)),
        )
        LOSS_TERMS.add("similarity", record)
    yield "similarity"
    remove_entries_of(ELSEWHERE)


class ToyEncoder:
    """Mean colors of the image's quarters, once for each image that a layer names."""

    feature_channels: ClassVar[dict[str, int]] = {"deep": CHANNELS}

    def encode_features(self, images: torch.Tensor, layer: str) -> torch.Tensor:
        assert layer == "deep"
        means = functional.adaptive_avg_pool2d(images.flatten(0, 1), 2)
        means = torch.cat([means, means[:, :2]], 1)
        return means.movedim(1, -1).unflatten(0, images.shape[:2])


def settings(cache: Path, run: Path, **options: Any) -> TrainSettings:
    given = {"preset": "tiny", "cache": cache, "output": run, "max_steps": 6, **options}
    sets = ["loss.terms.similarity.weight=0.5", "checkpoint.every_steps=2"]
    return config.resolve(
        TrainSettings, section="train", options=given, sets=sets, presets=train_presets()
    )


def test_stored_features_follow_the_views_of_a_draw(make_cache: MakeCache, tmp_path: Path) -> None:
    cache = TeacherCache(make_cache(tmp_path / "cache", features={"deep": CHANNELS}))
    source = CachedFeatures(cache, ("deep",))
    wanted = [[SampleRequest("made/02/000", (3, 1)), SampleRequest("made/00/000", (0, 2))]]
    with RingLoader(cache, features=source) as loader:
        (features,) = [
            source.features(stored.to(torch.device("cpu"))) for stored in loader.batches(wanted)
        ]
    made = [made_features(number, "deep", views=4, channels=CHANNELS) for number in (2, 0)]
    expected = torch.stack([made[0][[3, 1]], made[1][[0, 2]]]).half().float()
    assert torch.equal(features["deep"], expected)


def test_who_asks_for_no_features_reads_none(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TeacherCache(make_cache(tmp_path / "cache", features={"deep": CHANNELS}))
    monkeypatch.delattr(TeacherCache, "read_features_into")
    with RingLoader(cache) as loader:
        (batch,) = [
            stored.to(torch.device("cpu"))
            for stored in loader.batches([[SampleRequest("made/02/000", (3, 1))]])
        ]
    assert not batch.features


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_an_encoder_runs_on_the_images_that_the_student_sees(micro_batch: int) -> None:
    """Gradients are those of a loss written out, and reach the projector and the encoder alone."""
    torch.manual_seed(0)
    student = build_student("tiny").train()
    zero = {"alpha_global": 0.0, "alpha_local": 0.0, "gamma": 0.0}
    given = {**zero, "terms": {"similarity": {"weight": 2.0}}}
    objective = Objective(config.validate(LossSettings, given, source="a test").all_terms)
    batch = made_batch()
    source = LiveFeatures(ToyEncoder(), objective.features.teacher)
    values = accumulate(
        student,
        objective,
        batch,
        features=source,
        micro_batch=micro_batch,
        compute=ComputeSettings(),
        bfloat16=False,
    )
    (projector,) = objective.parameters()
    assert projector.grad is not None
    assert projector.grad.norm() > 0
    found = projector.grad.clone()
    reached = {name.split(".")[0] for name, p in student.named_parameters() if p.grad is not None}
    assert reached == {"encoder"}
    objective.zero_grad()
    student.zero_grad()
    shaded = batch.images.float() / 255
    tokens = []
    hook = student.get_submodule("encoder").register_forward_hook(
        lambda *call: tokens.append(call[2])
    )
    predicted = student(shaded, view_numbers=batch.view_numbers)
    hook.remove()
    inputs = TermInputs(
        predicted,
        batch.targets,
        {"deep": ToyEncoder().encode_features(shaded, "deep")},
        MappingProxyType({"encoder": tokens[0]}),
    )
    (term,) = objective.children()
    by_hand = 2.0 * term(inputs)
    by_hand.backward()
    torch.testing.assert_close(values[0], by_hand.detach())
    torch.testing.assert_close(projector.grad, found, rtol=1e-4, atol=1e-6)


def test_a_run_with_cached_features_resumes_to_the_bit(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", features={"deep": CHANNELS})
    train(settings(cache, tmp_path / "whole"))
    train(settings(cache, tmp_path / "parts", max_hours=1e-9))  # one step
    assert checkpoints.newest(tmp_path / "parts", warn=print).step == 1  # type: ignore[union-attr]
    train(settings(cache, tmp_path / "parts"), resume=True)
    rows = [
        [
            {name: value for name, value in row.items() if name.startswith("loss")}
            for row in read_metrics(tmp_path / run / "metrics.jsonl")
            if "loss" in row
        ]
        for run in ("whole", "parts")
    ]
    assert rows[0] == rows[1]
    assert all(row["loss_similarity"] > 0 for row in rows[0])
    ends = [checkpoints.read(tmp_path / run / "checkpoints" / "last") for run in ("whole", "parts")]
    projectors = [end.optimizer()["objective"]["similarity.projector.weight"] for end in ends]
    assert torch.equal(*projectors)
    with safe_open(ends[0].model, framework="pt") as file:
        names = list(file.keys())
    assert not any("projector" in name for name in names)


def test_the_projector_is_optimized_with_the_student() -> None:
    student = build_student("tiny")
    terms = {"similarity": {}}
    objective = Objective(
        config.validate(LossSettings, {"terms": terms}, source="a test").all_terms
    )
    optim = replace(TrainSettings().optim, weight_decay=0.05)
    groups = build_optimizer(student, optim, terms=objective).param_groups
    (projector,) = objective.parameters()
    (mine,) = [group for group in groups if any(projector is one for one in group["params"])]
    assert mine["weight_decay"] == 0
    assert {group["weight_decay"] for group in groups} == {0, 0.05}


def test_a_cache_without_the_layer_is_refused_before_anything_is_written(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    with pytest.raises(CacheError, match="'deep'"):
        train(settings(make_cache(tmp_path / "cache"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("data.mirror", True, "mirror"),
        ("data.zoom", 1.5, "zoom and data.aspect"),
        ("data.aspect", 1.2, "zoom and data.aspect"),
        ("data.turn", 20.0, "turn and data.shift"),
        ("data.shift", 0.2, "turn and data.shift"),
    ],
)
def test_stored_features_and_images_that_are_not_as_stored_are_refused_together(
    make_cache: MakeCache, tmp_path: Path, name: str, value: object, said: str
) -> None:
    cache = make_cache(tmp_path / "cache", features={"deep": CHANNELS}, change=depth_maps)
    with pytest.raises(ConfigError, match=rf"data\.{said} .* \(deep\)"):
        train(settings(cache, tmp_path / "run", **{name: value}))


def test_live_features_without_a_teacher_are_refused_not_read(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", features={"deep": CHANNELS})
    wanted = settings(cache, tmp_path / "run", **{"features.source": "live"})
    with pytest.raises(ConfigError, match="live: of made, none is") as caught:
        train(wanted)
    assert "features.teacher=NAME" in (caught.value.hint or "")
    named = settings(
        cache, tmp_path / "run", **{"features.source": "live", "features.teacher": "nobody"}
    )
    with pytest.raises(ConfigError, match="there is no teacher 'nobody'"):
        train(named)


def made_batch() -> Batch:
    samples = [made_sample(seed, views=3, size=(28, 42)) for seed in range(2)]
    targets = map_targets(samples[0][1], lambda values: torch.stack([values, values]))
    return Batch(
        images=torch.stack([images for images, _ in samples]),
        targets=targets,
        view_numbers=torch.arange(3).expand(2, 3),
        colors=None,
        draws=(Draw("made/0", 0), Draw("made/1", 1)),
    )

"""Every configuration that is shipped loads, and takes a step with a shrunken student."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_caches import depth_maps

from distill3r_core import config, config_files
from distill3r_core.losses.regression import RegressionOptions
from distill3r_core.losses.scene_points import ScenePointsOptions
from distill3r_core.models import StudentMetadata, build_student, save_student
from distill3r_core.models.families import train_presets
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.training.freezing import Freezer

SHRUNKEN = {
    "encoder": {"kind": "rotary", "width": 24, "depth": 1, "heads": 2},
    "fusion": {"width": 24, "depth": 3, "heads": 2},
    "heads": {"features": 8, "layers": [8, 8, 8, 8], "tail": 8},
}
SHRUNKEN_PAIRS = {
    "encoder": {"kind": "vit", "width": 24, "depth": 1, "heads": 2, "position_grid": 2},
    "decoder": {"width": 24, "depth": 2, "heads": 2},
    "heads": {"features": 8, "layers": [8, 8, 8, 8], "tail": 8, "spare_parameters": False},
}
KINDS = ("cnn", "mobilenet", "vit")
SCENE = {"network": {"kind": "cnn", "width": 8}}
TRAINING = [
    name for name in config_files.shipped_names() if "train:" in (config_files.shipped(name) or "")
]


def loaded(name: str, *sets: str, **options: object) -> TrainSettings:
    return config.resolve(
        TrainSettings,
        section="train",
        config=name,
        options=options,
        sets=sets,
        presets=train_presets(),
        default_preset="paper",
    )


def pair_file(path: Path) -> Path:
    """The file of a pair network twice as wide as the shrunken students."""
    wide = {**SHRUNKEN_PAIRS, "decoder": {"width": 48, "depth": 4, "heads": 4}}
    student = build_student("lunar-s2", **wide)
    save_student(path, student, StudentMetadata("lunar-s2", student.spec, (32, 48)))
    return path


def test_the_promised_ones_are_there() -> None:
    ablations = ("full", "labels-only", "no-weighting", "student-confidence", "planar")
    promised = {"paper-2602.00865", "single-24gb", *(f"ablation-{name}" for name in ablations)}
    promised |= {"scene-small", *(f"scene-{kind}-2412.02039" for kind in KINDS)}
    promised |= {f"lunar-{letter}" for letter in "abcde"}
    assert promised <= set(TRAINING)


@pytest.mark.parametrize("name", TRAINING)
def test_it_takes_a_step(name: str, make_cache: Callable[..., Path], tmp_path: Path) -> None:
    of_pairs = name.startswith("lunar-")
    options: dict[str, object] = {"model": SHRUNKEN_PAIRS if of_pairs else SHRUNKEN}
    if name.startswith("scene"):
        options["model"] = SCENE
    if of_pairs:
        options["cache"] = make_cache(
            tmp_path / "cache", sizes=((32, 48),) * 4, features={"enc_norm": 5}
        )
        options |= {"data.batch": 2, "data.accumulation": 1}
        if loaded(name).init == "svd":
            options["init_from"] = pair_file(tmp_path / "teacher.safetensors")
    elif loaded(name).data.nearby:  # cameras nearby need to know those that are there
        options["cache"] = make_cache(tmp_path / "cache", change=depth_maps)
    else:
        options["cache"] = make_cache(tmp_path / "cache")
    settings = loaded(
        name,
        output=tmp_path / "run",
        **options,
        scene=["00"] if name.startswith("scene") else [],
        gpus=1,
        device="cpu",
        max_steps=1,
    )
    assert train(settings).result["step"] == 1
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["loss"] > 0


def test_the_letter_true_run_has_the_papers_numbers() -> None:
    settings = loaded("paper-2602.00865")
    data, optim, schedule, loss = settings.data, settings.optim, settings.schedule, settings.loss
    assert settings.gpus * data.batch * data.accumulation == 16
    assert (settings.epochs, data.size, data.views) == (60, (224, 518), None)
    assert not (data.augment_views or data.mirror or data.colors)
    assert (optim.lr, schedule.final_lr, schedule.warmup_steps) == (1e-4, 5e-5, 3500)
    assert (optim.weight_decay, optim.decay, optim.betas) == (0.01, "all", (0.9, 0.95))
    assert (loss.alpha_global, loss.alpha_local, loss.gamma) == (2.0, 1.0, 0.001)
    assert (loss.weighting, loss.reduction) == ("paper", "paper")


def test_ablations_differ_in_the_loss_alone() -> None:
    base = config.as_plain(loaded("ablation-full"))
    for name in TRAINING:
        if name.startswith("ablation-"):
            found = config.as_plain(loaded(name))
            assert {**found, "loss": base["loss"]} == base


# Of arXiv:2412.02039: what is changed, millions of parameters, and whether all of them are trained.
@pytest.mark.parametrize(
    ("kind", "sets", "millions", "whole"),
    [
        ("cnn", (), 11.65, True),
        ("mobilenet", (), 0.89, True),
        ("mobilenet", ("optim.freeze=network.trunk",), 0.89, False),
        ("vit", (), 10.52, True),
        ("vit", ("model.network.patch=32",), 10.97, True),
        ("vit", ("model.network.patch=64",), 13.29, True),
        ("vit", ("model.network.width=128",), 3.17, True),
        ("vit", ("model.network.depth=4",), 4.20, True),
        ("vit", ("optim.freeze=[network.embed, network.blocks]",), 10.52, False),
    ],
)
def test_the_networks_of_the_scene_paper_are_settings(
    kind: str, sets: tuple[str, ...], millions: float, whole: bool
) -> None:
    settings = loaded(f"scene-{kind}-2412.02039", *sets, "encoder_weights=none")
    student = build_student(settings.preset, **settings.model)
    Freezer(student, settings.optim)
    counts = [
        sum(part.numel() for part in student.parameters() if part.requires_grad or not trained)
        for trained in (False, True)
    ]
    assert counts[0] / 1e6 == pytest.approx(millions, abs=0.006)
    assert (counts[0] == counts[1]) is whole and counts[1] > 0
    data, optim, schedule = settings.data, settings.optim, settings.schedule
    assert (data.views or 0) * data.batch * data.accumulation == 4  # images of a step
    assert not (data.mirror or data.colors or data.crops or optim.weight_decay or optim.clip)
    assert schedule.final_lr == optim.lr  # it stays
    term = settings.loss.terms["scene_points"]
    assert term == ScenePointsOptions(weight=1.0, error="mse", weighting="none")


# arXiv:2607.01851, ablations A to E: the cut, the feature loss, a frozen encoder, sparse truth.
@pytest.mark.parametrize(
    ("letter", "start", "feature", "freeze", "sparse"),
    [
        ("a", "svd", 0.1, (), None),
        ("b", None, 0.1, (), None),
        ("c", "svd", 0.1, ("encoder",), None),
        ("d", "svd", None, (), None),
        ("e", None, None, (), 0.01),
    ],
)
def test_the_ablations_of_pairs_differ_in_what_the_paper_says(
    letter: str,
    start: str | None,
    feature: float | None,
    freeze: tuple[str, ...],
    sparse: float | None,
) -> None:
    sets = () if start is None else ("init_from=teacher.safetensors",)
    settings = loaded(f"lunar-{letter}", *sets)
    assert settings.warm_start == start
    assert (settings.optim.freeze, settings.data.sparse) == (freeze, sparse)
    terms = {name: term for name, term in settings.loss.all_terms.items() if term.weight > 0}
    assert set(terms) == {"regression", *(() if feature is None else ("feature",))}
    assert feature is None or terms["feature"].weight == feature
    assert terms["regression"] == RegressionOptions()  # by the letter


@pytest.mark.parametrize("preset", ["lunar-s1", "lunar-s2", "lunar-s3", "lunar-s4"])
def test_pair_students_are_trained_by_the_papers_recipe(preset: str) -> None:
    settings = config.resolve(
        TrainSettings, section="train", options={"preset": preset}, presets=train_presets()
    )
    optim, schedule = settings.optim, settings.schedule
    assert (optim.lr, optim.weight_decay, optim.betas) == (3e-5, 0.05, (0.9, 0.95))
    # 28 pairs a step, 50 epochs, ten of them warm-up.
    assert settings.data.batch * settings.data.accumulation == 28
    assert (schedule.epochs, schedule.warmup_share * 50, schedule.final_lr) == (50, 10, 0)

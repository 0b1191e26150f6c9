"""An objective is the weighted sum of its terms, and a new term is a record in a registry."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from loss_cases import random_case
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.config import STRICT
from distill3r_core.errors import ConfigError
from distill3r_core.losses import DistillationLoss, LossSettings, Objective
from distill3r_core.losses.loss_term import LossTerm, TermInputs, TermOptions
from distill3r_core.losses.terms import LOSS_TERMS
from distill3r_core.registry import Origin, adding_from, remove_entries_of
from distill3r_core.training.settings import TrainSettings

ELSEWHERE = Origin("plugin", "toy.py")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DepthOptions(TermOptions):
    power: float = 1.0


def depth_error(inputs: TermInputs, options: DepthOptions) -> torch.Tensor:
    mask = inputs.targets.valid_mask
    assert inputs.predicted.points_local is not None
    error = (inputs.predicted.points_local - inputs.targets.points_local)[..., 2].abs()
    return torch.where(mask, error**options.power, 0.0).sum() / mask.sum()


@pytest.fixture
def depth_term() -> Iterator[str]:
    """A term from outside the package."""
    with added("depth"):
        yield "depth"


@contextmanager
def added(name: str) -> Iterator[None]:
    with adding_from(ELSEWHERE):
        term = LossTerm(
            label="depth",
            summary="Distance along the camera's axis.",
            options=DepthOptions,
            build=lambda options: lambda inputs: depth_error(inputs, options),
        )
        LOSS_TERMS.add(name, term)
    try:
        yield
    finally:
        remove_entries_of(ELSEWHERE)


def settings(**loss: object) -> LossSettings:
    return config.validate(TrainSettings, {"loss": loss}, source="a test").loss


def test_the_total_is_the_sum_of_the_weighted_terms(depth_term: str) -> None:
    predicted, targets = random_case()
    terms = {depth_term: {"weight": 0.5, "power": 2.0}}
    loss = Objective(settings(terms=terms).all_terms)(predicted, targets)
    assert list(loss.parts) == ["points_global", "points_local", "confidence", "depth"]
    torch.testing.assert_close(loss.total, torch.stack(list(loss.parts.values())).sum())
    by_itself = depth_error(TermInputs(predicted, targets), DepthOptions(power=2.0))
    torch.testing.assert_close(loss.parts["depth"], 0.5 * by_itself)
    torch.testing.assert_close(
        loss.total - loss.parts["depth"], DistillationLoss()(predicted, targets).total
    )


def test_the_paper_s_keys_make_the_paper_s_loss() -> None:
    predicted, targets = random_case()
    keys = {"alpha_global": 3.0, "gamma": 0.5, "weighting": "released", "reduction": "released"}
    loss = Objective(settings(**keys).all_terms)(predicted, targets)
    assert loss == DistillationLoss(**keys)(predicted, targets)  # type: ignore[arg-type]


def test_a_term_of_the_paper_may_have_options_of_its_own() -> None:
    given = settings(terms={"points_local": {"weight": 0.25, "weighting": "none"}})
    predicted, targets = random_case()
    loss = Objective(given.all_terms)(predicted, targets)
    alone = DistillationLoss(alpha_local=0.25, weighting="none")(predicted, targets)
    torch.testing.assert_close(loss.points_local, alone.points_local)
    torch.testing.assert_close(
        loss.points_global, DistillationLoss()(predicted, targets).points_global
    )


def test_a_term_of_weight_zero_is_not_computed(depth_term: str) -> None:
    predicted, targets = random_case(seed=1)
    given = settings(terms={depth_term: {"weight": 0, "power": float("nan")}})
    loss = Objective(given.all_terms)(predicted, targets)
    assert loss.total == DistillationLoss()(predicted, targets).total
    assert loss.parts["depth"] == 0


def test_an_objective_without_any_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="weight 0: points_global, points_local, confidence"):
        DistillationLoss(alpha_global=0.0, alpha_local=0.0, gamma=0.0)


def test_settings_of_terms_are_read_back_as_they_were_written(depth_term: str) -> None:
    terms = {depth_term: {"power": 2.0}, "confidence": {"reduction": "released"}}
    given = config.validate(TrainSettings, {"loss": {"terms": terms}}, source="a test")
    plain = config.as_plain(given)
    assert plain["loss"]["terms"][depth_term] == {"weight": 1.0, "power": 2.0}
    assert config.validate(TrainSettings, plain, source="its record") == given


def test_everything_wrong_with_the_terms_is_said_at_once(depth_term: str) -> None:
    terms = {
        "dept": {},
        depth_term: {"weight": -1, "powr": 2},
        "confidence": 3,
    }
    with pytest.raises(ConfigError) as caught:
        settings(terms=terms, alpha_local=-2)
    for part in (
        "loss.terms: unknown loss term 'dept', did you mean 'depth'?",
        "depth.weight: -1 is too small",
        "depth.powr: ",
        "did you mean 'power'?",
        "confidence: 3 is not a mapping",
        "loss.alpha_local: -2 is too small",
    ):
        assert part in caught.value.message

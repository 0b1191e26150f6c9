"""The cells of the scene study: what each student of a scene is made of and starts from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from distill3r_core.config import merge

CellName = Literal[
    "vit-16", "vit-32", "vit-64", "no-attention", "mobilenet", "pretrained", "frozen", "cnn"
]

# The transformer of all cells but two: as narrow as that of `--config scene-small`.
_NARROW = {"kind": "vit", "width": 192, "depth": 4, "heads": 6, "head_width": 64}
_RECIPE: Mapping[str, Any] = {
    "loss": {"terms": {"scene_points": {"weight": 1.0, "error": "l1"}}},
}


@dataclass(frozen=True)
class SceneCell:
    """One student of the study.

    Args:
        summary: The cell in words.
        preset: What it is built from.
        network: What differs from the preset's network.
        freeze: Submodules that are not trained.
        pretrained: It starts from a student of other rooms, trained in place, whose architecture
            it has.
        lr: Peak learning rate.
        once: Trained from the first seed alone, for a number of steps of its own that ends before
            the loss does.
    """

    summary: str
    preset: str = "scene-vit"
    network: Mapping[str, Any] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    pretrained: bool = False
    lr: float = 1e-3
    once: bool = False

    @property
    def recipe(self) -> dict[str, Any]:
        """What differs from the preset in the settings of `train`."""
        model = {"model": {"network": dict(self.network)}} if self.network else {}
        return merge(_RECIPE, {**model, "optim": {"lr": self.lr, "freeze": self.freeze}})


def _transformer(summary: str, patch: int, attention: str = "patches") -> SceneCell:
    return SceneCell(summary, network={**_NARROW, "patch": patch, "attention": attention})


CELLS: Mapping[CellName, SceneCell] = {
    "vit-16": _transformer("transformer, patches of 16", 16),
    "vit-32": _transformer("transformer, patches of 32", 32),
    "vit-64": _transformer("transformer, patches of 64", 64),
    "no-attention": _transformer("no attention between patches", 16, "none"),
    "mobilenet": SceneCell("MobileNetV3, from scratch", "scene-mobilenet"),
    "pretrained": SceneCell("vit-16, pretrained on other rooms", pretrained=True),
    "frozen": SceneCell(
        "the same, its blocks frozen", freeze=("network.embed", "network.blocks"), pretrained=True
    ),
    # Convolutions of the released width take about 10 CPU-seconds an image of 112x154.
    "cnn": SceneCell("convolutions, 512 channels as released", "scene-cnn", lr=1e-4, once=True),
}
AGAINST: CellName = "vit-16"  # the others are compared with it, seed by seed
COMPARED: tuple[tuple[CellName, CellName], ...] = (("frozen", "pretrained"),)
PRETRAINED: CellName = "vit-16"  # the architecture that learns other rooms first
STUDY: tuple[CellName, ...] = tuple(CELLS)

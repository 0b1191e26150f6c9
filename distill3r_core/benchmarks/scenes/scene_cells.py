"""The cells of the scene study: what each student of a scene is made of and starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

CellName = Literal[
    "vit-16", "vit-32", "vit-64", "alone", "mobilenet", "pretrained", "frozen", "cnn"
]

# The transformer of all cells but two, as narrow as a CPU can train: `--config scene-small`, with
# the patch of the preset.
_NARROW = "{kind: vit, patch: %d, width: 192, depth: 4, heads: 6, head_width: 64, attention: %s}"
_ERROR = "loss.terms.scene_points={weight: 1, error: l1}"
_RATE = "optim.lr=1e-3"


@dataclass(frozen=True)
class Cell:
    """One student of the study.

    Args:
        summary: The cell in words.
        preset: What it is built from.
        sets: `key=value` pairs, as for `train --set`.
        pretrained: It starts from a student of other rooms, trained in place, whose architecture
            it has.
    """

    summary: str
    preset: str
    sets: Sequence[str]
    pretrained: bool = False


def _transformer(summary: str, patch: int, attention: str = "patches") -> Cell:
    network = f"model.network={_NARROW % (patch, attention)}"
    return Cell(summary, "scene-vit", (network, _ERROR, _RATE))


CELLS: Mapping[CellName, Cell] = {
    "vit-16": _transformer("transformer, patches of 16", 16),
    "vit-32": _transformer("transformer, patches of 32", 32),
    "vit-64": _transformer("transformer, patches of 64", 64),
    "alone": _transformer("no attention between patches", 16, "none"),
    "mobilenet": Cell("MobileNetV3, from scratch", "scene-mobilenet", (_ERROR, _RATE)),
    "pretrained": Cell(
        "vit-16, pretrained on other rooms", "scene-vit", (_ERROR, _RATE), pretrained=True
    ),
    "frozen": Cell(
        "the same, its blocks frozen",
        "scene-vit",
        (_ERROR, _RATE, "optim.freeze=network.embed,network.blocks"),
        pretrained=True,
    ),
    "cnn": Cell(
        "convolutions, 64 channels",
        "scene-cnn",
        ("model.network={kind: cnn, width: 64}", _ERROR, _RATE),
    ),
}
AGAINST: CellName = "vit-16"  # the others are compared with it, seed by seed
PRETRAINED: CellName = "vit-16"  # the architecture that learns other rooms first
# Convolutions of the released width take 10 CPU-seconds an image: not by default.
STUDY: tuple[CellName, ...] = tuple(name for name in CELLS if name != "cnn")

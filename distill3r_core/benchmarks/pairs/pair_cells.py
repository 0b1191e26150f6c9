"""The cells of the pair study: what each student starts from and learns from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Start = Literal["none", "svd", "subspace"]
CellName = Literal[
    "none",
    "svd",
    "subspace",
    "features",
    "features-frozen",
    "encoder-halved",
    "decoder-halved",
    "sparse-truth",
    "frozen",
    "cnn",
]

# The teacher: an encoder as DUSt3R's, attention heads of 16 channels.
TEACHER: Mapping[str, Any] = {
    "encoder": {"kind": "croco", "width": 128, "depth": 4, "heads": 8},
    "adapter": False,
    "decoder": {"width": 96, "depth": 6, "heads": 6, "mlp_ratio": 4.0},
}
# The student, from scratch but for its start; its heads are the teacher's.
STUDENT: Mapping[str, Any] = {
    "encoder": {
        "kind": "vit",
        "width": 64,
        "depth": 4,
        "heads": 4,
        "kernel": 16,
        "layer_scale": False,
        "position_grid": 4,
    },
    "decoder": {"width": 48, "depth": 4, "heads": 3, "mlp_ratio": 2.0},
}


@dataclass(frozen=True)
class Cell:
    """One student of the study.

    Args:
        start: How decoder and heads start from the teacher's.
        features: Weight of the term `feature`, on the teacher's encoder tokens.
        encoder_of: Cell of the same seed whose trained encoder it begins with; None: at random.
        frozen: The encoder keeps its weights.
        truth: Learns from the exact points of 1 percent of the pixels instead of the teacher.
        model: What differs from `STUDENT`.
        summary: The cell in words.
    """

    summary: str
    start: Start = "none"
    features: float = 0.0
    encoder_of: CellName | None = None
    frozen: bool = False
    truth: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)


SPARSE = 0.01  # share of the pixels of sparse truth
FEATURE_WEIGHT = 0.1
CELLS: Mapping[CellName, Cell] = {
    "none": Cell("outputs, random start"),
    "svd": Cell("outputs, each tensor cut", start="svd"),
    "subspace": Cell("outputs, one basis of the stream", start="subspace"),
    "features": Cell("outputs and features", features=FEATURE_WEIGHT),
    "features-frozen": Cell(
        "outputs and features, encoder of `features`, frozen",
        features=FEATURE_WEIGHT,
        encoder_of="features",
        frozen=True,
    ),
    "encoder-halved": Cell("encoder of 2 blocks, decoder of 4", model={"encoder": {"depth": 2}}),
    "decoder-halved": Cell("encoder of 4 blocks, decoder of 2", model={"decoder": {"depth": 2}}),
    "sparse-truth": Cell("exact points of 1 % of the pixels", truth=True),
    "frozen": Cell("outputs, encoder of `features`, frozen", encoder_of="features", frozen=True),
    "cnn": Cell("outputs, MobileNetV3 encoder", model={"encoder": {"kind": "cnn"}}),
}
STUDY: tuple[CellName, ...] = tuple(name for name in CELLS if name not in ("cnn", "frozen"))
AGAINST: CellName = "none"  # the others are compared with it, seed by seed
COMPARED: tuple[tuple[CellName, CellName], ...] = (
    ("encoder-halved", "decoder-halved"),
    ("features-frozen", "features"),
    ("features-frozen", "frozen"),
    ("subspace", "svd"),
)

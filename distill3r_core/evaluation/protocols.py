"""Protocols: which frames are scored, what is predicted, how it is aligned and what is measured.

A figure means something only beside figures of the same protocol, so all that a reader could
vary is fixed here and written into every result. A protocol is a record in `PROTOCOLS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from distill3r_core.evaluation.alignments import PER_VIEW, Alignment
from distill3r_core.evaluation.frame_rules import FrameRule, NumberedFrames
from distill3r_core.registry import Registry


@dataclass(frozen=True)
class Protocol:
    """How a reconstruction is scored.

    Args:
        aggregation: A figure of the data set is reduced from the figures of its sequences, or
            the values of all sequences are pooled.
        rules: Further rules in words, for people and for the result file.
        published: By layout of the data set, then by system, the figures of that system's authors.
    """

    name: str  # what the user types
    frames: FrameRule  # which frames are scored, and which of them a model sees together
    alignment: Alignment  # which map is carried onto the truth, and how
    metrics: tuple[str, ...]  # names of metrics, in the order of tables
    grid: tuple[int, int]  # rows and columns of predictions that come from no model
    aggregation: Literal["sequences", "pooled"] = "sequences"
    rules: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)

    def all_rules(self) -> dict[str, str]:
        """All that is fixed, rule by rule, in words."""
        return {
            "head": self.alignment.head,
            "alignment": self.alignment.text,
            "frames": self.frames.text,
            "aggregation": self.aggregation,
            **self.rules,
        }


PROTOCOLS: Registry[Protocol] = Registry("protocol")

_MAX_VIEWS = 50  # of a sequence: what every 20th frame gives on 7-Scenes

PROTOCOLS.add(
    "table2",  # the reading of arXiv:2602.00865, Table II, whose authors publish no code
    Protocol(
        name="table2",
        frames=NumberedFrames(
            strides={"7scenes": 20, "dtu": 5},
            most=_MAX_VIEWS,
            text="7-Scenes: number % 20 = 0; DTU: number % 5 = 0; others: every k-th, "
            f"at most {_MAX_VIEWS}; one forward pass per sequence, the first frame is the anchor",
        ),
        alignment=PER_VIEW,
        metrics=(
            "acc",
            "comp",
            "scale",
            "scale_mean",
            "scale_log_spread",
            "scale_log_spread_views",
            "scale_log_error",
            "scale_norm",
        ),
        grid=(224, 518),
        rules={
            "distance": "nearest neighbor, both ways",
            "median": "over the points of a view",
            "mean": "over the views of a sequence, then over sequences",
            "mask": "valid truth only, no confidence",
            "truth": "depth registered to the color camera, sampled to the grid (nearest)",
        },
        published={
            "7scenes": {
                "Fast3R (384x512)": {"acc": 2.45, "comp": 2.97, "scale_mean": 3.54},
                "Distill3R (224x518)": {"acc": 8.76, "comp": 8.88, "scale_mean": 1.62},
            },
            "dtu": {  # meters x 100 too; the paper prints the scale in millimeters per unit
                "Fast3R (384x512)": {"acc": 0.31, "comp": 0.41, "scale_mean": 0.94249},
                "Distill3R (224x518)": {"acc": 1.16, "comp": 1.77, "scale_mean": 0.39459},
            },
        },
    ),
)

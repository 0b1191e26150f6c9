"""Evaluation protocols by name: which frames count, how they are scored, what others reached.

A figure means something only beside figures of the same protocol, so all that a reader could
vary is fixed here and written into every result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill3r_core.registry import Registry

MOST_VIEWS = 50  # of a sequence: what every 20th frame gives on 7-Scenes
STRIDES = {"7scenes": 20, "dtu": 5}  # by the frame's own number: the same on a thinned copy


@dataclass(frozen=True)
class Protocol:
    """How a reconstruction is scored.

    Args:
        name: What the user types.
        rules: What is fixed, rule by rule, for people and for the result file.
        grid: Rows and columns of predictions that come from no student.
        published: By data set layout, then by system, the figures of that system's authors.
    """

    name: str
    rules: Mapping[str, str]
    grid: tuple[int, int]
    published: Mapping[str, Mapping[str, Mapping[str, float]]]

    def frames(self, layout: str, numbers: Sequence[int | None]) -> list[int]:
        """Which frames of a sequence count.

        Args:
            layout: Of the data set.
            numbers: The frames' own numbers, in order; None where a frame has none.

        Returns:
            Indices into `numbers`: those divisible by the layout's stride where it has one, else
            every k-th frame, with the least k that leaves `MOST_VIEWS`.
        """
        stride = STRIDES.get(layout)
        if stride is None:
            step = max(1, -(-len(numbers) // MOST_VIEWS))
            return list(range(0, len(numbers), step))
        return [
            index for index, number in enumerate(numbers) if number is None or number % stride == 0
        ]


PROTOCOLS: Registry[Protocol] = Registry("protocol")

PROTOCOLS.add(
    "table2",  # the reading of arXiv:2602.00865, Table II, whose authors publish no code
    Protocol(
        name="table2",
        rules={
            "head": "local, per view",
            "alignment": "one similarity per view, over its valid pixels (Umeyama)",
            "distance": "nearest neighbour, both ways",
            "median": "over the points of a view",
            "mean": "over the views of a sequence, then over sequences",
            "mask": "valid truth only, no confidence",
            "frames": "7-Scenes: number % 20 = 0; DTU: number % 5 = 0; others: every k-th, "
            f"at most {MOST_VIEWS}; one forward pass per sequence, the first frame is the anchor",
            "truth": "depth registered to the color camera, sampled to the grid (nearest)",
        },
        grid=(224, 518),
        published={
            "7scenes": {
                "Fast3R (384x512)": {"acc": 2.45, "comp": 2.97, "scale_mean": 3.54},
                "Distill3R (224x518)": {"acc": 8.76, "comp": 8.88, "scale_mean": 1.62},
            },
            "dtu": {  # metres x 100 too; the paper prints the scale in millimetres per unit
                "Fast3R (384x512)": {"acc": 0.31, "comp": 0.41, "scale_mean": 0.94249},
                "Distill3R (224x518)": {"acc": 1.16, "comp": 1.77, "scale_mean": 0.39459},
            },
        },
    ),
)

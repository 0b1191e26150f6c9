"""What a length of a result means."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Scale:
    """What a length of 1 means.

    Args:
        unit: "m", or "relative": lengths compare with each other only.
        source: Where the unit comes from, in words.
        residual: Root mean square error, in meters, of the known distances.
        error: Relative error that is to be expected, from held-out samples of the training.
    """

    unit: Literal["relative", "m"] = "relative"
    source: str = "lengths compare with each other only"
    residual: float | None = None
    error: float | None = None

    def as_plain(self) -> dict[str, str]:
        """For the head of a file."""
        facts = {"scale": "relative" if self.unit == "relative" else "metric (meters)"}
        facts["scale_source"] = self.source
        if self.residual is not None:
            facts["scale_residual"] = f"{self.residual:.6g} m"
        if self.error is not None:
            facts["scale_error"] = f"{self.error:.2g} (relative, expected)"
        return facts

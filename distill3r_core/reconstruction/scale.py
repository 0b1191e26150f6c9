"""What a length of a result means."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Scale:
    """What a length of 1 means.

    Args:
        unit: "m", or "relative": lengths compare with each other only.
    """

    unit: Literal["relative", "m"] = "relative"
    source: str = "lengths compare with each other only"  # where the unit comes from, in words
    residual: float | None = None  # root mean square error, in meters, of the known distances

    def as_plain(self) -> dict[str, str]:
        """For the head of a file."""
        facts = {"scale": "relative" if self.unit == "relative" else "metric (meters)"}
        facts["scale_source"] = self.source
        if self.residual is not None:
            facts["scale_residual"] = f"{self.residual:.6g} m"
        return facts

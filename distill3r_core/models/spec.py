"""What the specs of all students have in common."""

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT, as_plain

# A file's description is not trusted: a network of a million blocks would take hours to build.
Channels = Annotated[int, Field(gt=0, le=1 << 14)]
Count = Annotated[int, Field(gt=0, le=1 << 10)]
Normalization = Literal["unit", "imagenet"]  # of the images that a network is fed


@dataclass(frozen=True, config=STRICT, kw_only=True)
class StudentSpec:
    """Architecture, and the properties that belong to the weights rather than to a run.

    A family derives its own type, which validates all other fields.
    """

    family: str

    def settled(self) -> "StudentSpec":
        """What a training may decide, decided as without one: of built and of stored students."""
        return self

    def as_plain(self) -> dict[str, Any]:
        """The spec as dicts, lists, numbers and strings, for JSON and YAML."""
        return as_plain(self)


def require_divisible(width: int, heads: int) -> None:
    """For pydantic: refuse attention heads that do not divide the channels of a token.

    Raises:
        ValueError: They do not.
    """
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of {heads} heads")

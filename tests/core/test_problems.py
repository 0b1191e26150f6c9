"""Wrong settings are told in plain words: what was given, what is wrong, what would do."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.config import STRICT
from distill3r_core.errors import ConfigError

Side = Annotated[int, Field(ge=14, multiple_of=14)]


def _even(text: str) -> None:
    if len(text) % 2:
        raise ConfigError(f"{text!r} is odd", hint="add a letter")


@dataclass(frozen=True, config=STRICT)
class Inner:
    rate: Annotated[float, Field(ge=0)] = 0.1
    shares: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (0, 1)


@dataclass(frozen=True, config=STRICT)
class Every:
    count: Annotated[int, Field(ge=1)] | None = None
    few: int = Field(default=3, ge=2, le=20)
    most: Annotated[int, Field(le=9)] = 1
    percent: Annotated[float, Field(ge=0, lt=100, allow_inf_nan=False)] = 10.0
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    plain: float = 1.0
    fit: Literal["squash", "crop"] = "squash"
    stride: int | Literal["pose"] | None = None
    weights: Literal["auto", "none"] | Path = "auto"
    mirror: bool = False
    name: str = "x"
    place: Path = Path()
    side: Side = 14
    size: Annotated[tuple[Side, Side] | None, BeforeValidator(config.read_size)] = None
    formats: Annotated[tuple[Literal["ply", "glb"], ...], Field(min_length=1)] = ("ply",)
    either: Literal["auto"] | tuple[int, int] = "auto"
    numbers: list[int] = field(default_factory=list)
    table: dict[int, float] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)
    even: Annotated[str, config.reads(_even)] = "ab"
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("count", 0, "0 is too small; it takes a whole number of at least 1"),
        ("count", 1.5, "1.5 is not a whole number of at least 1"),
        ("count", "many", "'many' is not a whole number of at least 1"),
        ("few", 1, "1 is too small; it takes a whole number from 2 to 20"),
        (
            "size",
            [14 * 10**30, 1],
            f"{14 * 10**30}x1 has sides that are not multiples of 14; "
            f"the nearest is {14 * 10**30}x14",
        ),
        (
            "size",
            "9" * 5000 + "x14",
            "cannot read the size '" + "9" * 5000 + "x14' (rows x columns: 378x518)",
        ),
        ("few", 21, "21 is too large; it takes a whole number from 2 to 20"),
        ("most", 10, "10 is too large; it takes a whole number of at most 9"),
        ("percent", 100.0, "100 is too large; it takes a number of at least 0 and below 100"),
        (
            "percent",
            float("nan"),
            "nan is not a number; it takes a number of at least 0 and below 100",
        ),
        (
            "percent",
            float("inf"),
            "inf is not finite; it takes a number of at least 0 and below 100",
        ),
        ("share", 0, "0 is too small; it takes a number above 0 and at most 1"),
        ("plain", "fast", "'fast' is not a number"),
        ("plain", None, "null is not a number"),
        ("fit", "sqash", "'sqash' is unknown: squash or crop; did you mean 'squash'?"),
        ("fit", "zzz", "'zzz' is unknown: squash or crop"),
        ("fit", 3, "3 is not squash or crop"),
        ("stride", "poze", "'poze' is unknown: pose or a whole number; did you mean 'pose'?"),
        ("stride", [1], "[1] is not pose or a whole number"),
        ("weights", 3, "3 is not auto, none or a path"),
        ("mirror", "perhaps", "'perhaps' is not true or false"),
        ("name", 3, "3 is not text"),
        ("place", 3, "3 is not a path"),
        ("side", 99, "99 is not a multiple of 14; the nearest is 98"),
        (
            "size",
            "100x200",
            "100x200 has sides that are not multiples of 14; the nearest is 98x196",
        ),
        ("size", [14, 99], "14x99 has sides that are not multiples of 14; the nearest is 14x98"),
        (
            "size",
            [14],
            "[14] has too few values; it takes 2 values, each a multiple of 14 of at least 14",
        ),
        (
            "size",
            [14, 14, 14],
            "[14, 14, 14] has too many values; "
            "it takes 2 values, each a multiple of 14 of at least 14",
        ),
        ("size", [99, "a"], "99 is not a multiple of 14; the nearest is 98"),
        ("either", [1, "b"], "[1, 'b'] is not auto or 2 values, each a whole number"),
        (
            "either",
            "aut",
            "'aut' is unknown: auto or 2 values, each a whole number; did you mean 'auto'?",
        ),
        ("numbers", [1, 2, "c"], "'c' is not a whole number"),
        ("numbers", 3, "3 is not a list"),
        ("table", {7: "d"}, "'d' is not a number"),
        ("size", "foo", "cannot read the size 'foo' (rows x columns: 378x518)"),
        ("formats", ["plx"], "'plx' is unknown: ply or glb; did you mean 'ply'?"),
        ("formats", [], "[] has too few values; it takes one value or more, each ply or glb"),
        ("free", 3, "3 is not a mapping"),
        ("even", "abc", "'abc' is odd (add a letter)"),
        ("inner", 3, "3 is not a mapping with rate or shares"),
        ("inner.rate", -1, "-1 is too small; it takes a number of at least 0"),
        ("inner.shares", [0.5, 2], "2 is too large; it takes a number from 0 to 1"),
        ("inner.rat", 1, "unknown setting; did you mean 'rate'?"),
        ("counts", 1, "unknown setting; did you mean 'count'?"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(key, value, message):
    with pytest.raises(ConfigError) as caught:
        config.resolve(Every, section="train", options={key: value}, words={key: "--it"})
    assert caught.value.message == f"--it: {message}"


def test_each_source_is_named_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("few: 1\ninner: {rate: -1}\nfit: squash")
    with pytest.raises(ConfigError) as caught:
        config.resolve(
            Every,
            section="train",
            config="mine.yaml",
            sets=["inner.shares=[0, 2]", "inner.rate=-2"],
            options={"count": 0},
            words={"count": "--count", "few": "--few"},
        )
    assert caught.value.message.splitlines() == [
        "cannot use these settings:",
        "  --count: 0 is too small; it takes a whole number of at least 1",
        "  few: 1 is too small; it takes a whole number from 2 to 20 (in mine.yaml)",
        "  --set inner.rate: -2 is too small; it takes a number of at least 0",
        "  --set inner.shares: 2 is too large; it takes a number from 0 to 1",
    ]


def test_a_mapping_of_set_names_what_is_wrong_in_it():
    with pytest.raises(ConfigError, match=r"^--set inner\.rate: -1 is too small"):
        config.resolve(Every, section="train", sets=["inner={rate: -1}"])
    with pytest.raises(ConfigError, match=r"^--set inner\.rate\.x: \{'x': 1\} is not a number"):
        config.resolve(Every, section="train", sets=["inner.rate.x=1"])


def test_a_setting_that_is_needed_is_called_missing_by_its_name():
    @dataclass(frozen=True, config=STRICT)
    class Needs:
        roots: Annotated[tuple[Path, ...], Field(min_length=1)]

    with pytest.raises(ConfigError, match=r"^ROOTS: missing$"):
        config.resolve(Needs, section="manifest", words={"roots": "ROOTS"})

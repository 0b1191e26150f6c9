import sys
from importlib import metadata
from types import ModuleType

import pytest

from distill3r_core.errors import ConfigError
from distill3r_core.registry import BUILT_IN, Origin, Registry, adding_from, remove_entries_of

GROUP = "distill3r.colors"
FILE = Origin("plugin", "mine.py")


@pytest.fixture
def colors():
    registry = Registry("color", entry_points=GROUP)
    registry.add("red", 1)
    return registry


@pytest.fixture
def announce(monkeypatch):
    """Announce entries as an installed package would: `name = "color_package:NAME"`."""
    package = ModuleType("color_package")
    monkeypatch.setitem(sys.modules, package.__name__, package)

    def to_announce(*names, **values):
        vars(package).update(values)
        points = [metadata.EntryPoint(one, f"color_package:{one.upper()}", GROUP) for one in names]
        monkeypatch.setattr(
            metadata, "entry_points", lambda *, group: points if group == GROUP else []
        )

    return to_announce


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all(colors):
    colors.add("green", 2)
    with pytest.raises(ConfigError, match="unknown color 'gren', did you mean 'green'") as caught:
        colors["gren"]
    assert caught.value.hint == "known: green, red"


def test_an_entry_point_is_known_at_once_and_loaded_when_it_is_looked_up(colors, announce):
    announce("blue")
    assert list(colors) == ["red", "blue"]  # and yet the package has no BLUE
    with pytest.raises(ConfigError, match=r"cannot load the color 'blue'.*color_package:BLUE"):
        colors["blue"]
    announce("blue", BLUE=3)
    assert colors["blue"] == 3


def test_a_package_cannot_take_a_name_that_is_in_use(colors, announce):
    announce("red", RED=4)
    for _ in range(2):  # the conflict stays one
        with pytest.raises(
            ConfigError,
            match="the package color_package:RED and distill3r both bring a color 'red'",
        ):
            colors["red"]


def test_two_packages_cannot_bring_one_name(colors, announce):
    announce("blue", "blue", BLUE=4)
    with pytest.raises(ConfigError, match="both bring a color 'blue'"):
        list(colors)


def test_a_plugin_cannot_take_the_name_of_a_package(colors, announce):
    announce("blue", BLUE=4)
    with (
        adding_from(FILE),
        pytest.raises(ConfigError, match=r"the plugin mine\.py and the package .* color 'blue'"),
    ):
        colors.add("blue", 5)


def test_an_entry_knows_who_added_it(colors, announce):
    announce("blue", BLUE=4)
    with adding_from(FILE):
        colors.add("green", 2)
    assert colors.origin("red") == BUILT_IN
    assert colors.origin("green") == FILE
    assert colors.origin("blue").kind == "package"
    with pytest.raises(ConfigError, match="unknown color"):
        colors.origin("black")


def test_what_a_plugin_added_can_be_removed(colors):
    with adding_from(FILE):
        colors.add("green", 2)
    remove_entries_of(FILE)
    assert list(colors) == ["red"]
    colors.add("green", 3)
    assert colors["green"] == 3

from types import SimpleNamespace

import pytest

from distill3r_core.errors import ConfigError, WeightsError
from distill3r_core.teachers import (
    Teacher,
    build_teacher,
    choose_teacher,
    require_weights,
)


@pytest.mark.parametrize("name", ["depth", "synthetic"])
def test_a_teacher_without_weights_is_built_by_its_name(name):
    teacher = build_teacher(name)
    assert isinstance(teacher, Teacher)
    assert teacher.name == name
    assert teacher.threshold is None


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'synthetic'"):
        build_teacher("syntetic")


def test_a_teacher_says_which_settings_decide_its_answers():
    assert build_teacher("depth").settings == {}
    assert build_teacher("synthetic", seed=3).settings == {"seed": 3}


def test_an_override_that_nothing_reads_is_refused():
    assert build_teacher("synthetic", seed=3).seed == 3
    with pytest.raises(ConfigError, match="sede"):
        build_teacher("synthetic", sede=3)


def test_weights_for_a_teacher_that_has_none_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no weights"):
        build_teacher("depth", tmp_path)


def frame(**changes):
    facts = {"depth_path": "d.png", "pose": (1.0,), "K_source": "calibrated", "camera": "pinhole"}
    return SimpleNamespace(**(facts | changes))


def test_auto_is_depth_only_where_every_frame_is_exact():
    assert choose_teacher([frame(), frame()]) == "depth"
    for lack in (
        {"depth_path": ""}, {"pose": None}, {"K_source": "exif"}, {"camera": "fisheye"},
    ):  # fmt: skip
        assert choose_teacher([frame(), frame(**lack)]) == "fast3r"
    assert choose_teacher([]) == "fast3r"


def test_missing_weights_are_named_with_their_place_and_every_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(WeightsError) as caught:
        require_weights("fast3r")
    assert "model.safetensors" in caught.value.message
    assert str(tmp_path / "home" / "fast3r") in caught.value.message
    for words in (
        "distill3r models download fast3r", "--weights", "--teacher synthetic",
        "a dry run, not your scene", "distill3r demo",
    ):  # fmt: skip
        assert words in caught.value.hint


def test_weights_are_found_where_the_user_put_them(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path))
    place = tmp_path / "fast3r"
    place.mkdir()
    (place / "model.safetensors").touch()
    with pytest.raises(WeightsError, match=r"config\.json"):
        require_weights("fast3r")
    (place / "config.json").touch()
    assert require_weights("fast3r") == place
    assert require_weights("fast3r", place) == place
    assert require_weights("depth") is None

from types import SimpleNamespace

import pytest
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.errors import ConfigError, WeightsError
from distill3r_core.teachers import (
    TEACHERS,
    Teacher,
    TeacherNeeds,
    TeacherRecord,
    build_teacher,
    choose_teacher,
)
from distill3r_core.teachers.choice import TeacherChoice, TeacherSetting
from distill3r_core.teachers.fast3r import PUBLISHED
from distill3r_core.teachers.synthetic import SyntheticTeacher
from distill3r_core.teachers.weights import require_weights


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
    assert build_teacher("synthetic", seed=3).settings["seed"] == 3
    with pytest.raises(ConfigError, match="sede"):
        build_teacher("synthetic", sede=3)


def test_weights_for_a_teacher_that_has_none_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no weights"):
        build_teacher("depth", tmp_path)


def frame(**changes):
    facts = {"depth_path": "d.png", "pose": (1.0,), "K_source": "calibrated", "camera": "pinhole"}
    return SimpleNamespace(**(facts | changes))


def test_auto_is_depth_only_where_every_frame_is_exact():
    assert choose_teacher([frame(), frame()]).name == "depth"
    for lack in (
        {"depth_path": ""}, {"pose": None}, {"K_source": "exif"}, {"camera": "fisheye"},
    ):  # fmt: skip
        assert choose_teacher([frame(), frame(**lack)]).name == "da3-small"
    assert choose_teacher([]).name == "da3-small"


def test_missing_weights_are_named_with_their_place_and_every_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(WeightsError) as caught:
        require_weights(PUBLISHED, dry_run="synthetic")
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
        require_weights(PUBLISHED)
    (place / "config.json").touch()
    assert require_weights(PUBLISHED) == place
    assert require_weights(PUBLISHED, place) == place
    assert require_weights(None) is None


@pytest.mark.parametrize("name", ["depth", "synthetic"])
def test_a_record_says_what_its_teacher_says(name):
    record, teacher = TEACHERS[name], build_teacher(name)
    for fact in ("name", "licenses", "fit", "metric", "threshold"):
        assert getattr(teacher, fact) == getattr(record, fact), fact
    assert set(teacher.settings) == set(config.as_plain(record.read_settings({})))
    assert record.seeded == ("seed" in teacher.settings)


def test_what_a_frame_lacks_is_named():
    needs = TeacherNeeds(depth=True, poses=True, intrinsics=True)
    assert needs.lacking(frame()) == ()
    assert needs.lacking(frame(pose=None, K_source="exif")) == (
        "a pose",
        "a pinhole's calibrated K",
    )
    assert TeacherNeeds().lacking(frame(depth_path="", pose=None)) == ()


def test_a_record_that_is_in_no_registry_is_built_too():
    record = TeacherRecord(
        name="mine",
        build=lambda settings, weights, device: SyntheticTeacher(),
        licenses=("Apache-2.0",),
    )
    assert isinstance(build_teacher(record), SyntheticTeacher)
    with pytest.raises(ConfigError, match="'mine' has no setting 'seed'"):
        build_teacher(record, seed=1)


@dataclass(frozen=True, config=config.STRICT)
class Settings:
    teacher: TeacherSetting = TeacherChoice()


def read(**arguments):
    return config.resolve(Settings, section="cache", **arguments).teacher


def test_a_teachers_own_settings_follow_its_name_wherever_that_is_written(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("teacher: synthetic\n")
    wanted = TeacherChoice("synthetic", {"seed": 4})
    assert read(config=str(file), sets=["teacher.seed=4"]) == wanted
    assert read(sets=["teacher.seed=4"], options={"teacher.name": "synthetic"}) == wanted
    file.write_text("teacher: {name: synthetic, seed: 4}\n")
    assert read(config=str(file)) == wanted
    assert read() == TeacherChoice("auto")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["teacher=syntetic"], "did you mean 'synthetic'"),
        (["teacher.name=synthetic", "teacher.sede=3"], "has no setting 'sede'"),
        (["teacher.name=synthetic", "teacher.seed=-1"], "seed"),
        (["teacher.name=fast3r", "teacher.precision=half"], "precision"),
        (["teacher=[1]"], "is not the name of a teacher"),
    ],
)
def test_a_choice_that_no_teacher_fits_is_refused(sets, message):
    with pytest.raises(ConfigError, match="--set teacher") as caught:
        read(sets=sets)
    assert message in caught.value.message


def test_a_choice_is_written_as_it_is_read():
    for choice in (TeacherChoice("depth"), TeacherChoice("synthetic", {"seed": 4})):
        plain = config.as_plain(Settings(choice))
        assert config.validate(Settings, plain, source="test").teacher == choice
    assert config.as_plain(Settings())["teacher"] == "auto"

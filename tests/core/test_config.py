"""Settings come in the promised order, and everything wrong is said at once."""

from dataclasses import field

import pytest
import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

from distill3r_core import config, config_files
from distill3r_core.config import STRICT
from distill3r_core.errors import ConfigError, InputMissingError


@dataclass(frozen=True, config=STRICT)
class Optim:
    lr: float = 1e-4
    decay: str = "matrices"


@dataclass(frozen=True, config=STRICT)
class Settings:
    preset: str = "paper"
    steps: int = Field(default=10, gt=0)
    optim: Optim = field(default_factory=Optim)


PRESETS = {"paper": {"steps": 100}, "tiny": {"steps": 20, "optim": {"lr": 1e-3}}}


def resolve(**sources) -> Settings:
    return config.resolve(Settings, section="train", presets=PRESETS, **sources)


def test_each_source_wins_over_the_one_below_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve().steps == 10
    assert resolve(default_preset="tiny").optim == Optim(lr=1e-3)
    (tmp_path / "distill3r.yaml").write_text("train: {preset: tiny, steps: 3, optim: {lr: 2e-3}}")
    assert resolve(default_preset="paper") == Settings("tiny", 3, Optim(lr=2e-3))
    assert resolve(sets=["optim.lr=3e-3"]).optim.lr == 3e-3
    chosen = resolve(sets=["optim.lr=3e-3", "steps=4"], options={"optim.lr": 4e-3})
    assert (chosen.optim.lr, chosen.steps) == (4e-3, 4)


def test_a_key_may_begin_with_the_section_that_it_stands_under_in_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve(sets=["train.optim.lr=3e-3"]) == resolve(sets=["optim.lr=3e-3"])
    with pytest.raises(ConfigError, match=r"take no prefix `cache\.`"):
        resolve(sets=["cache.size=70x98"])


def test_a_named_file_replaces_the_project_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distill3r.yaml").write_text("train: {steps: 3}")
    (tmp_path / "mine.yaml").write_text("optim: {lr: 5e-4}")
    chosen = resolve(config="mine.yaml")
    assert (chosen.steps, chosen.optim.lr) == (10, 5e-4)


def test_files_merge_in_order_above_the_preset_of_any_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("preset: tiny\noptim: {lr: 5e-4, decay: all}")
    (tmp_path / "b.yaml").write_text("train: {optim: {lr: 6e-4}}\ncache: {size: 70x98}")
    assert resolve(config=["a.yaml", "b.yaml"]) == Settings("tiny", 20, Optim(6e-4, "all"))
    assert resolve(config=["b.yaml", "a.yaml"]) == Settings("tiny", 20, Optim(5e-4, "all"))
    assert resolve(config=[]) == Settings()
    (tmp_path / "c.yaml").write_text("step: 3\noptim: {lr: fast}")
    with pytest.raises(ConfigError, match=r"cannot use a\.yaml and c\.yaml:(?s:.*)step: "):
        resolve(config=["a.yaml", "c.yaml"])


def test_a_part_of_another_kind_replaces_the_whole():
    base = {"model": {"encoder": {"kind": "dune", "arch": "b"}, "fusion": {"depth": 3}}}
    top = {"model": {"encoder": {"kind": "rotary", "width": 8}, "fusion": {"width": 4}}}
    expected = {"encoder": {"kind": "rotary", "width": 8}, "fusion": {"depth": 3, "width": 4}}
    assert config.merge(base, top) == {"model": expected}


def test_an_alternative_replaces_the_other_of_a_lower_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distill3r.yaml").write_text("train: {steps: 3}")
    both = {"alternatives": ("steps", "preset")}
    assert resolve(options={"preset": "tiny"}, **both).steps == 20
    assert resolve(sets=["preset=tiny"], **both).steps == 20
    assert resolve(options={"preset": "tiny"}).steps == 3


def test_every_problem_is_named_by_its_dotted_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("steps: -1\noptim: {lr: fast, learning_rate: 1}\nstep: 3")
    with pytest.raises(ConfigError) as caught:
        resolve(config="bad.yaml")
    text = str(caught.value)
    assert text.startswith("cannot use bad.yaml:")
    for key in ("steps: ", "optim.lr: ", "optim.learning_rate: ", "step: "):
        assert f"  {key}" in text


def test_an_unknown_section_of_the_project_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distill3r.yaml").write_text("trian: {steps: 3}")
    with pytest.raises(ConfigError, match="trian"):
        resolve()


def test_a_section_that_is_no_mapping_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distill3r.yaml").write_text("train: 3")
    with pytest.raises(ConfigError, match="train: Not a mapping"):
        resolve()


def test_a_config_that_is_nowhere_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputMissingError, match=r"nowhere\.yaml"):
        resolve(config="nowhere.yaml")


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"^--set preset: 'huge' is unknown: paper or tiny$"):
        resolve(sets=["preset=huge"])


def test_printed_settings_read_back_equal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = resolve(options={"optim.lr": 7e-5, "steps": 9, "preset": "tiny"})
    (tmp_path / "again.yaml").write_text(config.as_yaml("train", settings))
    assert resolve(config="again.yaml") == settings


def test_overrides_leave_presets_untouched():
    resolve(options={"preset": "tiny", "optim.lr": 9.0})
    assert PRESETS["tiny"] == {"steps": 20, "optim": {"lr": 1e-3}}


@pytest.mark.parametrize("text", ["no_equals", "=3", "a.b=[1", ".steps=3", "optim.=3"])
def test_a_set_that_cannot_be_read_is_refused(text):
    with pytest.raises(ConfigError, match="cannot read --set"):
        resolve(sets=[text])


def test_differences_name_each_dotted_key_once():
    old, new = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4, "d": 3}, "e": 5}
    assert config.differences(old, new) == ["b.c: 2 → 4", "e: (absent) → 5"]
    assert config.differences({}, {"f": None}) == ["f: (absent) → None"]


@pytest.mark.parametrize("name", config_files.shipped_names())
def test_every_shipped_configuration_is_a_mapping(name):
    assert isinstance(yaml.safe_load(config_files.shipped(name)), dict)


def test_a_config_that_is_no_text_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"picture\.png"):
        resolve(config="picture.png")


def test_a_config_that_holds_itself_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("train: &all {preset: tiny, optim: *all}")
    with pytest.raises(ConfigError, match=r"cannot read mine\.yaml"):
        resolve(config="mine.yaml")


@pytest.mark.parametrize("preset", ["[tiny]", "{tiny: 1}", "3"])
def test_a_preset_that_is_no_name_is_refused(preset):
    with pytest.raises(ConfigError, match=r"--set preset: .* is unknown: "):
        resolve(sets=[f"preset={preset}"])


def test_sizes_are_read_and_refused():
    assert config.parse_size("378x518") == (378, 518)
    for wrong in ("0x518", "378", "378x", "axb", "3.5x2", "378×518"):
        with pytest.raises(ConfigError, match="size"):
            config.parse_size(wrong)


def test_plugins_are_listed_for_all_commands_or_for_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distill3r.yaml").write_text(
        "plugins: [all.py]\ntrain: {steps: 3, plugins: [train.py]}\ncache: {plugins: [cache.py]}"
    )
    assert config.plugin_files("train") == ["all.py", "train.py"]
    assert config.plugin_files("infer") == ["all.py"]
    assert resolve().steps == 3
    (tmp_path / "mine.yaml").write_text("steps: 4\nplugins: [mine.py]")
    assert config.plugin_files("train", "mine.yaml") == ["mine.py"]
    assert resolve(config="mine.yaml").steps == 4


def test_settings_are_written_with_their_plugins(tmp_path):
    (tmp_path / "mine.yaml").write_text(config.as_yaml("train", Settings(), plugins=["/a/b.py"]))
    assert config.plugin_files("train", str(tmp_path / "mine.yaml")) == ["/a/b.py"]
    assert resolve(config=str(tmp_path / "mine.yaml")) == Settings()


@pytest.mark.parametrize("listed", ["mine.py", "[3]", "{a: b}"])
def test_plugins_that_are_no_list_of_files_are_refused(tmp_path, monkeypatch, listed):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distill3r.yaml").write_text(f"plugins: {listed}")
    with pytest.raises(ConfigError, match="is not a list of files"):
        config.plugin_files("train")


def test_plugins_are_no_setting_of_set():
    with pytest.raises(ConfigError, match="plugins"):
        resolve(sets=["plugins=[a.py]"])

"""Resolve the settings of a training run as the command line does, for callers in Python."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from distill3r_core import config
from distill3r_core.extend import load_plugins
from distill3r_core.models.families import preset_spec, train_presets
from distill3r_core.training.settings import TrainSettings, default_preset

LENGTHS = ("max_steps", "epochs")  # two ways to give the length of a run


def train_settings(
    *, configs: Sequence[str] = (), sets: Sequence[str] = (), **options: Any
) -> TrainSettings:
    """Resolve the settings of `distill3r train`: the same values make the same run.

    Precedence is that of the command line: `options` > `sets` > `configs`, or the section `train`
    of `distill3r.yaml` in the current folder > the preset's recipe > default. Plugins that a
    configuration lists are loaded.

    Args:
        configs: Files or names of shipped configurations, as for `--config`; the later one wins.
        sets: `key=value` pairs, as for `--set`.
        options: Values of `TrainSettings` by name: `preset="tiny", max_steps=400, start="runs/a"`.

    Raises:
        ConfigError: Unknown keys or invalid values; lists all of them.
        InputMissingError: A configuration is neither a file nor a shipped name.
    """
    plugins = config.plugin_files("train", configs)
    if plugins:
        load_plugins(plugins)
    settings = config.resolve(
        TrainSettings,
        section="train",
        options=options,
        sets=sets,
        config=configs,
        presets=train_presets(),
        default_preset=default_preset(),
        alternatives=LENGTHS,
    )
    return complete_model(settings)


def complete_model(settings: TrainSettings) -> TrainSettings:
    """The settings with every value of the model that is trained.

    Where the run starts from a checkpoint, that decides about the model, and nothing is filled in.

    Raises:
        ConfigError: `model` does not fit the preset.
    """
    if settings.start is not None:
        return settings
    spec = preset_spec(settings.preset, settings.model, within="model")
    return replace(settings, model=spec.as_plain())


def with_map_size(settings: TrainSettings, *, taught: bool) -> TrainSettings:
    """The settings with `model.map_size` decided, where a fresh student has one and it is open.

    Args:
        taught: The run has the term that teaches a size.
    """
    if not leaves_map_size_open(settings):
        return settings
    size = "predicted" if taught else "free"
    return replace(settings, model={**settings.model, "map_size": size})


def leaves_map_size_open(settings: TrainSettings) -> bool:
    """Whether what the run learns decides if the student predicts its size."""
    if settings.start is not None:
        return False
    return complete_model(settings).model.get("map_size") == "auto"

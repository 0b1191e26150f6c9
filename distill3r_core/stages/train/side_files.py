"""What a run writes beside its checkpoints for its readers, and makes again where it is damaged."""

import yaml

from distill3r_core import config, plugins
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import DamageError
from distill3r_core.files import read_own, write_text
from distill3r_core.report import Progress
from distill3r_core.runs.run_record import IMAGE_HASHES
from distill3r_core.runs.training_images import (
    read_training_images,
    training_images,
    write_training_images,
)
from distill3r_core.stages.train.run_folder import CONFIG, RunFolder, samples_learned
from distill3r_core.training.settings import TrainSettings
from distill3r_core.untrusted.yaml_text import read_yaml


def describe_run(folder: RunFolder, settings: TrainSettings, cache: CacheUnion) -> None:
    """Write what a reader of the run needs to know before it has ended."""
    _write_config(folder, settings)
    _write_images(folder, settings, cache)


def mend_description(
    folder: RunFolder, settings: TrainSettings, cache: CacheUnion, progress: Progress
) -> None:
    """Write the files again that are missing or damaged beside a finished run."""
    fault = _images_fault(folder)
    if fault is not None:
        _write_images(folder, settings, cache)
        progress.note(f"warning: {fault}; it is made again from the cache")
    fault = _config_fault(folder)
    if fault is not None:
        _write_config(folder, settings)
        progress.note(f"warning: {fault}; it is made again from the settings")


def _write_config(folder: RunFolder, settings: TrainSettings) -> None:
    text = config.as_yaml("train", settings, plugins=plugins.loaded_paths())
    write_text(folder.path / CONFIG, text, durable=True)


def _write_images(folder: RunFolder, settings: TrainSettings, cache: CacheUnion) -> None:
    images = training_images(cache, samples_learned(settings, cache))
    write_training_images(folder.path / IMAGE_HASHES, images)


def _images_fault(folder: RunFolder) -> str | None:
    path = folder.path / IMAGE_HASHES
    try:
        read_training_images(path)
    except FileNotFoundError:
        return f"{path} is missing"
    except DamageError as error:
        return error.message
    return None


def _config_fault(folder: RunFolder) -> str | None:
    path = folder.path / CONFIG
    try:
        found = read_yaml(read_own(path).decode())
    except FileNotFoundError:
        return f"{path} is missing"
    except (yaml.YAMLError, ValueError):
        found = None
    return None if isinstance(found, dict) else f"{path} is damaged: it holds no settings"

"""`train --gpus N`: the same command in N processes."""

from collections.abc import Sequence

import torch

from distill3r_core.errors import DeviceError
from distill3r_core.stages.train.caches import open_caches
from distill3r_core.stages.train.run_folder import check_run, decide_map_size, identity_of, steps_of
from distill3r_core.training.distributed import World, launch
from distill3r_core.training.settings import TrainSettings


def is_launcher(settings: TrainSettings) -> bool:
    """Whether this process is to start others instead of training."""
    return settings.gpus > 1 and World.from_environment().launch is None


def launch_training(
    settings: TrainSettings, command: Sequence[str], *, resume: bool, overwrite: bool
) -> int:
    """Run a training command in `settings.gpus` processes; its exit status.

    What would stop every process is found before the first one starts.

    Raises:
        DeviceError: There are fewer GPUs.
        InputMissingError: There is no cache.
        ConflictError: The run folder holds another run.
        KeyboardInterrupt: Interrupted; the last step is in a checkpoint.
    """
    there = torch.cuda.device_count()
    if settings.device != "cpu" and there < settings.gpus:
        raise DeviceError(
            f"--gpus {settings.gpus}: there are {there} GPUs",
            hint="on a CPU, --device cpu --gpus 2 trains in two processes",
        )
    cache = open_caches(settings)
    settings = decide_map_size(
        settings, cache, processes=settings.gpus, resume=resume, overwrite=overwrite
    )
    identity = identity_of(settings, cache, processes=settings.gpus)
    steps = steps_of(settings, cache, processes=settings.gpus)
    check_run(settings, identity, steps=steps, resume=resume, overwrite=overwrite)
    return launch(command, processes=settings.gpus)

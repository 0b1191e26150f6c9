"""Runs as training leaves them, without training."""

import shutil
from pathlib import Path

from distill3r_core.models import Student, StudentMetadata, save_student
from distill3r_core.training import checkpoints


def write_run(run: Path, student: Student, metadata: StudentMetadata, *, step: int = 1) -> Path:
    """Write a checkpoint of a student, which is the run's last and best; its folder."""
    return _save(run, step, lambda path: save_student(path, student, metadata))


def copy_run(run: Path, weights: Path, *, step: int = 1) -> Path:
    """`write_run` of a student's file."""
    return _save(run, step, lambda path: shutil.copy(weights, path))


def _save(run: Path, step: int, save_model) -> Path:
    folder = checkpoints.save(run, step=step, save_model=save_model, optimizer={}, state={})
    checkpoints.link(run, checkpoints.BEST, step)
    return folder

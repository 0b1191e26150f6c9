"""A folder with a run, for tests of `infer`."""

from pathlib import Path

import pytest
import torch
from saved_runs import copy_run

from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import StudentMetadata, build_student, save_student


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    student = build_student("tiny")
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    metadata = StudentMetadata(
        preset="tiny", spec=student.spec, size=(28, 42), fit=ImageFit(size=(28, 42)).as_plain(),
        teacher="depth", licenses=("of the teacher",),
    )  # fmt: skip
    save_student(path, student, metadata)
    return path


@pytest.fixture
def project(tmp_path, weights) -> Path:
    """A folder with a run."""
    copy_run(tmp_path / "runs" / "tiny-001", weights)
    return tmp_path

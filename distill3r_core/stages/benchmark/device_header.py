"""What a reader must know to compare a benchmark's figures with others."""

from pathlib import Path
from typing import Any

import torch

from distill3r_core import profiling
from distill3r_core.stages.benchmark.entries import Contender
from distill3r_core.stages.benchmark.timing import Calibration

DRIVER = Path("/proc/driver/nvidia/version")


def header_of(
    device: torch.device,
    precision: str,
    student: Contender,
    known: Calibration,
    budget: float | None,
) -> dict[str, Any]:
    """Device, versions, precision and kernels, as plain data for a person to read.

    Args:
        device: Where it was measured.
        precision: float32 or bfloat16.
        student: That was measured.
        known: What its processes told of themselves and of the device.
        budget: Seconds; None: no end.
    """
    machine = profiling.machine(device)
    rows, columns = student.size
    return {
        "device": device.type,
        "name": machine.get("gpu") or f"{machine['cpu']}, {machine['cores']} cores",
        "driver": _driver(device),
        "torch": f"torch {machine['torch']}",
        "precision": precision,
        "attention": known.facts.get("attention"),
        "heads": known.facts.get("heads"),
        "head": None if student.subject.head == "both" else f"{student.subject.head} head alone",
        "threads": known.facts.get("threads") if device.type == "cpu" else None,
        "size": f"{rows}x{columns}",
        "budget": budget,
        "flop_rate": known.flop_rate,
        "byte_rate": known.byte_rate,
    }


def _driver(device: torch.device) -> str | None:
    """The version of the GPU's driver, where it can be told."""
    if device.type != "cuda" or not DRIVER.is_file():
        return None
    words = DRIVER.read_text().splitlines()[0].split()
    return next((f"driver {word}" for word in words if word[:1].isdigit()), None)

"""What tests of `infer` have in common: photographs, and one run of the command."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def make_photos(folder: Path, *names: str, size=(64, 48)) -> Path:
    """Pictures of noise, each name its own, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        pixels = np.random.default_rng(index).integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def run_infer(cli_inprocess, *arguments, cwd, json_too=True):
    """Status, stdout (what it says as JSON) and stderr of one command line."""
    status, out, err = cli_inprocess(
        "infer", *arguments, *(["--json"] if json_too else []), cwd=cwd
    )
    return status, (json.loads(out) if json_too and out else out), err

"""Networks of the golden files: weights drawn by name, images by formula, recorded slices."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recorded import Draw, drawing, load_arrays, load_json

IMAGENET = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
_DRAW = re.compile(r"tensor_for\('([^']+)', (\[[^\]]*\]), (\d+)\)")
_FACTOR = re.compile(r"([\d.]+) \* tensor_for")
_OFFSET = re.compile(r"([\d.]+) \+ [\d.]+ \* tensor_for")
_BOUNDS = re.compile(r"clip\(.*tensor_for\([^)]*\), ([\d.]+), ([\d.]+)\)")
_LISTED = re.compile(r"(mean|std) (\[[^\]]*\])")


class Recorded:
    """One recorded network: its facts, its arrays, and the draws that both came from."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.stem = stem
        self.facts: dict[str, Any] = load_json(folder, stem)
        self.arrays = load_arrays(folder, stem)
        self.draw: Draw = drawing(folder)

    def state(self, *, tamed: bool = True) -> dict[str, torch.Tensor]:
        """Every tensor under its official name, aliases included.

        Args:
            tamed: Multiply and set what the file says, or leave all tensors as they are drawn.
        """
        fill = self.facts["fill"]
        state = {
            name: torch.from_numpy(self.draw(name, shape, self.facts["seed"]))
            for name, shape in self.facts["state_dict"]
        }
        for name in fill.get("excluded", ()):
            values = torch.tensor(IMAGENET["mean" if "mean" in name else "std"])
            state[name] = values.reshape(state[name].shape)
        if tamed:
            for name, factor in fill["then_multiply"].items():
                state[name] = factor * state[name]
            for name, values in fill.get("then_set", {}).items():
                state[name] = torch.tensor(values).reshape(state[name].shape)
        for alias, name in self.facts["aliases"].items():
            state[alias] = state[name]
        return state

    def image(self, formula: str) -> torch.Tensor:
        """The tensor of a formula: drawn, scaled, shifted, clipped and normalized as it says."""
        name, shape, seed = _groups(_DRAW, formula)
        image = torch.from_numpy(self.draw(name, json.loads(shape), int(seed)))
        factor, offset, bounds = (p.search(formula) for p in (_FACTOR, _OFFSET, _BOUNDS))
        if factor is not None:
            image = float(factor[1]) * image
        if offset is not None:
            image = float(offset[1]) + image
        if bounds is not None:
            image = image.clamp(float(bounds[1]), float(bounds[2]))
        listed = {kind: torch.tensor(json.loads(text)) for kind, text in _LISTED.findall(formula)}
        if listed:
            image = (image - listed["mean"][:, None, None]) / listed["std"][:, None, None]
        return image

    def outputs(self, case: str) -> dict[str, Mapping[str, Any]]:
        """What was recorded of a case, without the case's name."""
        return {
            name.removeprefix(f"{case}/"): facts
            for name, facts in self.facts["outputs"].items()
            if name.startswith(f"{case}/")
        }

    def error(self, name: str, found: torch.Tensor) -> float:
        """Largest difference over largest recorded value.

        Args:
            name: Of the output, its case included.
            found: All of our output, of which a slice was recorded.
        """
        facts = self.facts["outputs"][name]
        assert list(found.shape) == facts["shape"], (name, found.shape)
        wanted = self.arrays[name]
        ours = found[slices(facts["stored_index"])].numpy()
        assert ours.shape == wanted.shape, (name, ours.shape)
        return float(np.abs(ours - wanted).max() / np.abs(wanted).max())


def slices(text: str) -> tuple[slice | int, ...]:
    """The slice of an output that a text says was stored, as `[:, ::4, 0]`."""
    if text == "all":
        return (slice(None),)
    parts = (part.strip() for part in text.strip("[]").split(","))
    return tuple(
        int(part)
        if re.fullmatch(r"-?\d+", part)
        else slice(*(int(bound) if bound else None for bound in part.split(":")))
        for part in parts
    )


def _groups(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    match = pattern.search(text)
    assert match is not None, text
    return match.groups()

"""Read the recorded cases: weights drawn by name, inputs and slices by the formulas in the JSON."""

import importlib.util
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

Draw = Callable[..., np.ndarray]

_DRAW = re.compile(r"tensor_for\('([^']+)', \(([^)]*)\), (\d+)\)")
_SLICE = re.compile(r"\[((?::|::\d+)(?:, (?::|::\d+))*)\]")
_FACTOR = re.compile(r"= ([0-9.e-]+) \* tensor_for")


def load_json(folder: Path, name: str) -> dict[str, Any]:
    """One JSON file of the folder."""
    return json.loads((folder / f"{name}.json").read_text())


def load_arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    """All arrays that stand beside it."""
    with np.load(folder / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def drawing(folder: Path) -> Draw:
    """The folder's own `tensor_for(name, shape, seed)`."""
    spec = importlib.util.spec_from_file_location("golden_weights", folder / "golden_weights.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tensor_for


def weights(
    draw: Draw, names: Sequence[tuple[str, Sequence[int]]], seed: int
) -> dict[str, torch.Tensor]:
    """Every tensor of an official state dict; of two aliases both get what the later one draws."""
    state = {name: torch.from_numpy(draw(name, shape, seed)) for name, shape in names}
    for name in list(state):
        head, found, tail = name.partition("scratch.layer_rn.")
        if found:
            state[f"{head}scratch.layer{int(tail[0]) + 1}_rn{tail[1:]}"] = state[name]
    return state


def drawn(draw: Draw, formula: str, **indices: int) -> torch.Tensor:
    """The `tensor_for(...)` of a formula, with its factor and tanh where it has them."""
    match = _DRAW.search(formula)
    assert match is not None, formula
    name, shape, seed = match.groups()
    for index, value in indices.items():
        name = name.replace(f"<{index}>", str(value))
    values = draw(name, [int(side) for side in shape.split(",")], int(seed))
    factor = _FACTOR.search(formula)
    if factor is not None:
        values = np.float32(factor.group(1)) * values
    found = torch.from_numpy(values)
    return found.tanh() if "tanh(" in formula else found


def stored(formula: str, number: int = -1) -> tuple[slice, ...]:
    """The slice that a text says was stored, as `[:, ::7, ::8]`; the last one unless numbered."""
    text = _SLICE.findall(formula)[number]
    steps = [part.strip().removeprefix("::") for part in text.split(",")]
    return tuple(slice(None, None, int(step) if step.isdigit() else None) for step in steps)


def relative_error(found: torch.Tensor, wanted: np.ndarray) -> float:
    """Largest difference over largest value."""
    assert tuple(found.shape) == wanted.shape, (tuple(found.shape), wanted.shape)
    return float(np.abs(found.numpy() - wanted).max() / np.abs(wanted).max())


def namespaced(values: Mapping[str, Any], case: str) -> dict[str, Any]:
    """The entries of one case, without its name."""
    return {
        name.removeprefix(f"{case}/"): value
        for name, value in values.items()
        if name.startswith(f"{case}/")
    }


def generate(formulas: dict[str, str], width: int, height: int) -> np.ndarray:
    """The test image of a width and a height that the formulas of a file describe."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    names = {"x": x, "y": y, "W": width, "H": height, "pi": np.pi, "sin": np.sin, "cos": np.cos}
    channels = []
    for channel in "RGB":
        formula = formulas[channel].replace("mod", "%")
        formula = re.sub(r"(\d|pi)\s+(?=[a-zA-Z(])", r"\1 * ", formula)
        value = eval(formula, {"__builtins__": {}, "floor": np.floor}, names)
        channels.append(np.clip(np.floor(value + 0.5), 0, 255).astype(np.uint8))
    return np.stack(channels, axis=-1)


def number(text: str, pattern: str) -> float:
    """The number that a pattern's one group finds in a text, as a tolerance that is in words."""
    match = re.search(pattern, text)
    assert match is not None, (pattern, text)
    return float(match[1])


def recorded_cases(name: str, *sections: str) -> list[str]:
    """Keys of a section of a JSON file, for `parametrize`; none where no folder is named."""
    folder = os.environ.get("DISTILL3R_GOLDEN")
    if not folder:
        return []
    values = load_json(Path(folder), name)
    for section in sections or ("results",):
        values = values[section]
    return list(values)

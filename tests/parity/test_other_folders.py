"""The tests here pass on another folder of this layout, and fail on one that is spoiled."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recorded import load_arrays, load_json

HERE = Path(__file__).parent
# Recorded networks of teachers, and the files of tests that read them.
NETWORKS = {
    "vggt_tiny": ("test_vggt.py",),
    "pi3_tiny": ("test_pi3.py",),
    "da3_tiny": ("test_da3.py",),
    "da3_tiny_eps": ("test_da3.py",),
    "dust3r_tiny": ("test_pairwise_networks.py", "test_pair_student.py"),
    "dust3r_linear_tiny": ("test_pairwise_networks.py",),
    "mast3r_tiny": ("test_pairwise_networks.py",),
}
OTHERS = {
    "da3_geometry": ("test_da3_geometry.py",),
    "da3_preprocess": ("test_da3_preprocess.py",),
    "pairwise_alignment": ("test_pairwise_alignment.py",),
    "pairwise_alignment_focals": ("test_pairwise_alignment.py",),
}
EVALUATIONS = {
    "eval_poses": ("test_eval_poses.py",),
    "eval_depth": ("test_eval_depth.py",),
    "eval_points": ("test_eval_points.py", "test_eval_points_clouds.py", "test_eval_tsdf.py"),
    "spatialbench_layout": ("test_spatialbench_layout.py",),
}
KEYS = {
    "vggt_1b": ("test_vggt.py",),
    "pi3": ("test_pi3.py",),
    "da3_small": ("test_da3.py",),
    "da3_base": ("test_da3.py",),
    "da3_large": ("test_da3.py",),
    "dust3r_large": ("test_pairwise_networks.py",),
    "mast3r_large": ("test_pairwise_networks.py",),
}
FILES = NETWORKS | OTHERS | EVALUATIONS | KEYS
# Axis of the scenes where it is not the first; None: the original records the first scene alone.
AXES = {"pose_enc_all": 1, "points_from_depth": None}
_INPUT = re.compile(r"(tensor_for\('input/[^']+', \[)(\d+)")
_DRAW_TWICE = """

_once = tensor_for


def tensor_for(name, shape, seed=0):
    if not name.startswith("input/") or name.startswith("input/geometry"):
        return _once(name, shape, seed)
    half = _once(name, (shape[0] // 2, *shape[1:]), seed)
    return np.concatenate([half, half])
"""


def stack(folder: Path, stem: str) -> None:
    """Make every batch of a recorded network twice as large, by repeating its scenes."""
    facts, arrays = load_json(folder, stem), load_arrays(folder, stem)
    for inputs in facts["inputs"].values():
        for given in inputs.values():
            if isinstance(given, dict) and "formula" in given:
                given["formula"] = _INPUT.sub(
                    lambda found: found[1] + str(2 * int(found[2])), given["formula"]
                )
    recorded = facts["outputs"]
    for name in arrays:
        axis = AXES.get(name.rpartition("/")[2], 0)
        index = recorded.get(name, {}).get("stored_index", "all")
        if axis is None or re.match(r"\[\d", index):
            continue
        arrays[name] = np.concatenate([arrays[name]] * 2, axis=axis)
        if "shape" in recorded.get(name, {}):
            recorded[name]["shape"][axis] *= 2
    for output in recorded.values():
        if "value" in output:
            output["value"] = output["value"] * 2
    (folder / f"{stem}.json").write_text(json.dumps(facts))
    np.savez(folder / f"{stem}.npz", **arrays)


def double_scenes(folder: Path, stem: str) -> None:
    """Repeat every scene of recorded poses under another name: no mean over scenes changes."""
    facts, arrays = load_json(folder, stem), load_arrays(folder, stem)
    facts["scenes"] += [f"{scene}-again" for scene in facts["scenes"]]
    for values in (facts["results"], arrays):
        for name in list(values):
            scene, _, rest = name.partition("/")
            values[f"{scene}-again/{rest}"] = values[name]
    for scenes in facts["aggregation"]["categories"].values():
        scenes += [f"{scene}-again" for scene in scenes]
    (folder / f"{stem}.json").write_text(json.dumps(facts))
    np.savez(folder / f"{stem}.npz", **arrays)


def mirror_depths(folder: Path, stem: str) -> None:
    """Mirror recorded depth maps: no error of them changes."""
    arrays = load_arrays(folder, stem)
    np.savez(folder / f"{stem}.npz", **{name: maps[..., ::-1] for name, maps in arrays.items()})


def rename_scenes(folder: Path, stem: str) -> None:
    """Give recorded scenes of SpatialBench other names."""
    facts, arrays = load_json(folder, stem), load_arrays(folder, stem)
    scenes = sorted({case.partition("/")[0] for case in facts["readers"]})
    for scene in scenes:
        (folder / stem / scene).rename(folder / stem / f"renamed-{scene}")
    facts["readers"] = {f"renamed-{case}": facts["readers"][case] for case in facts["readers"]}
    (folder / f"{stem}.json").write_text(json.dumps(facts))
    renamed = {
        f"renamed-{name}" if name.partition("/")[0] in scenes else name: values
        for name, values in arrays.items()
    }
    np.savez(folder / f"{stem}.npz", **renamed)


OF_OTHER_FORM = {
    "eval_poses": double_scenes,
    "eval_depth": mirror_depths,
    "spatialbench_layout": rename_scenes,
}


def spoil(folder: Path, stem: str) -> None:
    """Change one value in the middle of every array of a file by a hundredth of its range."""
    arrays = load_arrays(folder, stem)
    for values in arrays.values():
        if values.dtype.kind == "f" and values.size:
            values.reshape(-1)[values.size // 2] += 0.01 * np.abs(values).max() + 1e-3
    np.savez(folder / f"{stem}.npz", **arrays)


@pytest.fixture
def folder(golden_dir, tmp_path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(golden_dir, tmp_path / "golden"))


def run(folder: Path, *files: str, collect: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line"]
        + ["--collect-only"] * collect
        + [str(HERE / file) for file in files],
        env=os.environ | {"DISTILL3R_GOLDEN": str(folder)},
        capture_output=True,
        text=True,
        cwd=HERE.parents[1],
        check=False,
    )


@pytest.mark.slow
def test_larger_batches_pass_unchanged(folder):
    drawing = folder / "golden_weights.py"
    drawing.write_text(drawing.read_text() + _DRAW_TWICE)
    for stem in NETWORKS:
        stack(folder, stem)
    files = {file for files in NETWORKS.values() for file in files}
    done = run(folder, *sorted(files))
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("stem", OF_OTHER_FORM)
def test_a_folder_of_the_same_facts_in_another_form_passes_unchanged(folder, stem):
    OF_OTHER_FORM[stem](folder, stem)
    done = run(folder, *EVALUATIONS[stem])
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("stem", [*NETWORKS, *OTHERS, *EVALUATIONS])
def test_a_spoiled_file_makes_a_test_of_its_name_fail(folder, stem):
    spoil(folder, stem)
    done = run(folder, *(NETWORKS | OTHERS | EVALUATIONS)[stem])
    assert done.returncode == 1, done.stdout[-3000:]
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert any(stem in line for line in failed), failed


@pytest.mark.parametrize("stem", NETWORKS)
def test_every_array_of_a_recorded_network_is_an_input_or_is_compared(golden_dir, stem):
    """The tests of networks compare every output that the JSON lists."""
    facts = load_json(golden_dir, stem)
    given = {
        value["stored"]
        for inputs in facts["inputs"].values()
        for value in inputs.values()
        if isinstance(value, dict) and "stored" in value
    }
    assert set(load_arrays(golden_dir, stem)) == set(facts["outputs"]) | given


def test_ids_hold_the_stem_of_every_recorded_file(golden_dir):
    done = run(golden_dir, *sorted({f for files in FILES.values() for f in files}), collect=True)
    ids = [line for line in done.stdout.splitlines() if "::" in line]
    for stem, files in FILES.items():
        for file in files:
            assert any(file in line and stem in line for line in ids), (stem, file)
    stems = sorted(FILES, key=len, reverse=True)
    without = [line for line in ids if not any(stem in line for stem in stems)]
    assert without == []


def test_every_recorded_file_is_read_by_a_test_here(golden_dir):
    read = "".join(file.read_text() for file in HERE.glob("test_*.py") if file != Path(__file__))
    prefixes = (
        "da3",
        "vggt",
        "pi3",
        "mast3r",
        "dust3r",
        "pairwise",
        "fast3r",
        "eval",
        "spatialbench",
    )
    stems = {
        path.name.removesuffix(".json").removesuffix(".npz").removesuffix(".keys")
        for path in golden_dir.iterdir()
        if path.name.startswith(prefixes) and path.suffix in (".json", ".npz")
    }
    assert stems and {stem for stem in stems if f'"{stem}' not in read} == set()

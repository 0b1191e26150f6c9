"""The original's run-length code and its two layouts of object arrays."""

import json
from pathlib import Path

import numpy as np
import pytest

from distill3r_core.cache.original import original_format as original_format
from distill3r_core.errors import DamageError


def recorded(golden_dir: Path) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Masks and their codes."""
    cases = json.loads((golden_dir / "rle.json").read_text())["masks"]
    assert cases
    return {
        name: (np.array([[c == "1" for c in row] for row in case["rows"]]), case["rle"])
        for name, case in cases.items()
    }


def test_every_recorded_mask_has_its_recorded_code(golden_dir):
    for name, (mask, code) in recorded(golden_dir).items():
        assert original_format.encode_runs(mask) == code, name
        assert (original_format.decode_runs(code, mask.shape) == mask).all(), name


def test_both_layouts_of_object_arrays_are_written_and_read(golden_dir, tmp_path):
    for name, (mask, code) in recorded(golden_dir).items():
        for masks, ndim in ((np.stack([mask, mask]), 2), (np.stack([mask, ~mask]), None)):
            packed = original_format.pack_masks(masks)
            lengths = {len(original_format.encode_runs(one)) for one in masks}
            assert packed.dtype == object
            assert packed.ndim == (2 if len(lengths) == 1 else 1), name
            assert ndim in (None, packed.ndim)
            assert [int(n) for n in packed[0]] == code
            np.savez(tmp_path / "masks.npz", masks=packed)
            with np.load(tmp_path / "masks.npz", allow_pickle=True) as archive:
                again = original_format.unpack_masks(archive["masks"], mask.shape)
            assert (again == masks).all(), name


def test_the_recorded_export_has_the_recorded_codes(golden_dir):
    record = json.loads((golden_dir / "teacher_export.json").read_text())
    size = tuple(record["target_HxW"])
    for sample in record["samples"].values():
        for code in sample["masks"]:
            mask = original_format.decode_runs(code, size)
            assert original_format.encode_runs(mask) == code


@pytest.mark.parametrize("code", [[0], [-1, 2], [5, 100], [3, -1]])
def test_a_code_that_leaves_the_mask_is_refused(code):
    with pytest.raises(DamageError):
        original_format.decode_runs(code, (3, 4))

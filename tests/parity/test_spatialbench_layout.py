"""SpatialBench's scenes as read here against what its own 19 readers gave."""

import numpy as np
import pytest
from recorded import load_arrays, load_json, number

from distill3r_core.evaluation.spatialbench.decode import decode_codes, decode_depth
from distill3r_core.evaluation.spatialbench.readers import READERS
from distill3r_core.evaluation.spatialbench.scene import BenchScene

GOLDEN = "spatialbench_layout"


def test_spatialbench_layout_scenes_are_read_as_recorded(golden_dir):
    facts, arrays = load_json(golden_dir, GOLDEN), load_arrays(golden_dir, GOLDEN)
    first_row, first_column, step = facts["sample"]
    tolerances = facts["tolerances"]
    near = number(tolerances["pose, depth, valid pixels, sky pixels"], r"exact \(depth (\S+)\)")
    picture = tolerances["picture"]
    levels, undistorted = number(picture, r"^(\S+) level"), number(picture, r"(\S+) levels$")
    part = np.s_[first_row::step, first_column::step]
    assert {case.rpartition("/")[2] for case in facts["readers"]} == set(READERS)
    for case, expected in facts["readers"].items():
        folder, _, name = case.rpartition("/")
        reader = READERS[name]
        assert reader.farthest == expected["z_far"], case
        scene = BenchScene(golden_dir / GOLDEN / folder, reader)
        scene.check()
        frames = [scene.read(index) for index in range(len(scene.images))]
        assert len(frames) == facts["frames"]
        for index, frame in enumerate(frames):
            at = f"{case}, frame {index}"
            assert list(frame.image.shape[1::-1]) == expected["resolution"], at
            recorded = {key: arrays[f"{case}/{key}"][index] for key in ("K", "pose", "depth")}
            np.testing.assert_allclose(
                frame.intrinsics, recorded["K"], atol=tolerances["K"], err_msg=at
            )
            assert frame.world_from_cam is not None
            np.testing.assert_array_equal(frame.world_from_cam[:3], recorded["pose"], err_msg=at)
            np.testing.assert_allclose(
                frame.depth[part], recorded["depth"], rtol=near, atol=near, err_msg=at
            )
            assert int((frame.depth > 0).sum()) == expected["valid_pixels"][index], at
            total = frame.depth.sum(dtype=np.float64)
            assert total == pytest.approx(expected["depth_sum"][index], rel=near), at
            sky = expected["sky_pixels"]
            assert frame.sky_pixels == (None if sky is None else sky[index]), at
            allowed = undistorted if reader.plain else levels
            difference = frame.image[part].astype(int) - arrays[f"{case}/image"][index]
            assert np.abs(difference).max() <= allowed, at
            mean = frame.image.mean((0, 1), dtype=np.float64)
            np.testing.assert_allclose(
                mean, expected["image_mean"][index], rtol=0, atol=allowed, err_msg=at
            )


def test_spatialbench_layout_depth_codes_are_decoded_as_recorded(golden_dir):
    facts, arrays = load_json(golden_dir, GOLDEN), load_arrays(golden_dir, GOLDEN)
    scale = facts["decode_metric_scale"]
    raw = arrays["decode/raw"].astype(float)
    codes = [name for name in arrays if name.startswith("decode/uint16") and "/sky" not in name]
    assert len(codes) == 5
    for name in codes:
        depth, sky = decode_codes(raw, name.removeprefix("decode/"), metric_scale=scale)
        np.testing.assert_allclose(depth, arrays[name], rtol=2e-5, atol=2e-5)
        if f"{name}/sky" in arrays:
            np.testing.assert_array_equal(sky, arrays[f"{name}/sky"])


def test_spatialbench_layout_depth_in_floats_is_decoded_as_recorded(golden_dir, tmp_path):
    arrays = load_arrays(golden_dir, GOLDEN)
    raw, path = arrays["decode/raw"].astype(float), tmp_path / "depth"
    codes = [name.removeprefix("decode/") for name in arrays if "float32" in name]
    assert len(codes) == 2
    for code in codes:
        recorded = arrays[f"decode/{code}"]
        with path.open("wb") as file:
            if code.startswith("npy"):
                np.save(file, recorded)
            else:
                file.write(recorded.astype("<f4").tobytes())
        depth, sky = decode_depth(path, code)
        assert sky is None
        np.testing.assert_array_equal(depth, recorded)
        # Meters are the codes of the other files, by one factor.
        np.testing.assert_allclose(depth / depth.max(), raw / raw.max(), rtol=1e-6)

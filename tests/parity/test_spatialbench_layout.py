"""SpatialBench's scenes as read here against what its own 19 readers gave."""

import numpy as np
from recorded import load_arrays, load_json

from distill3r_core.evaluation.spatialbench.decode import decode_codes
from distill3r_core.evaluation.spatialbench.readers import READERS
from distill3r_core.evaluation.spatialbench.scene import BenchScene

GOLDEN = "spatialbench_layout"


def test_spatialbench_layout_scenes_are_read_as_recorded(golden_dir):
    facts, arrays = load_json(golden_dir, GOLDEN), load_arrays(golden_dir, GOLDEN)
    first_row, first_column, step = facts["sample"]
    part = np.s_[first_row::step, first_column::step]
    assert {case.rpartition("/")[2] for case in facts["readers"]} == set(READERS)
    for case, expected in facts["readers"].items():
        folder, _, name = case.rpartition("/")
        scene = BenchScene(golden_dir / GOLDEN / folder, READERS[name])
        scene.check()
        frames = [scene.read(index) for index in range(len(scene.images))]
        assert len(frames) == facts["frames"]
        for index, frame in enumerate(frames):
            at = f"{case}, frame {index}"
            assert list(frame.image.shape[1::-1]) == expected["resolution"], at
            recorded = {key: arrays[f"{case}/{key}"][index] for key in ("K", "pose", "depth")}
            np.testing.assert_allclose(frame.intrinsics, recorded["K"], atol=2e-4, err_msg=at)
            assert frame.world_from_cam is not None
            np.testing.assert_allclose(frame.world_from_cam[:3], recorded["pose"], atol=1e-6)
            np.testing.assert_allclose(
                frame.depth[part], recorded["depth"], rtol=2e-5, atol=2e-5, err_msg=at
            )
            assert int((frame.depth > 0).sum()) == expected["valid_pixels"][index], at
            levels = 3 if READERS[name].plain else 1
            difference = frame.image[part].astype(int) - arrays[f"{case}/image"][index]
            assert np.abs(difference).max() <= levels, at


def test_spatialbench_layout_depth_codes_are_decoded_as_recorded(golden_dir):
    arrays = load_arrays(golden_dir, GOLDEN)
    raw = arrays["decode/raw"].astype(float)
    codes = [name for name in arrays if name.startswith("decode/uint16") and "/sky" not in name]
    assert len(codes) == 5
    for name in codes:
        depth, sky = decode_codes(raw, name.removeprefix("decode/"), metric_scale=2.5)
        np.testing.assert_allclose(depth, arrays[name], rtol=2e-5, atol=2e-5)
        if f"{name}/sky" in arrays:
            np.testing.assert_array_equal(sky, arrays[f"{name}/sky"])

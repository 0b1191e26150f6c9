"""DTU's feed-forward evaluations: which views, in which order, and lengths that are millimeters."""

from functools import partial

import numpy as np
import pytest
from layout_files import matrix_text, write
from PIL import Image
from trees import save_picture

from distill3r_core.data.frame_processing import Processing
from distill3r_core.evaluation.data_frames import read_test_data
from distill3r_core.evaluation.predictions import predict_truth
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import figures_of, score_sequence
from distill3r_core.evaluation.view_truth import fit_views
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.report import Silent

SIZE = (48, 64)
VIEWS = 49
FAR = 600  # millimeters
FORWARDS = tuple(range(0, 46, 5))


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("table2", FORWARDS),
        ("spann3r", FORWARDS[::-1]),
        ("fast3r", FORWARDS[::-1]),
        ("pi3-sparse", FORWARDS),
        ("pi3-dense", FORWARDS),
    ],
)
def test_every_fifth_view_of_dtu_is_taken_in_the_order_of_the_published_code(protocol, expected):
    (window,) = PROTOCOLS[protocol].frames("dtu", {"dtu/scan1": list(range(VIEWS))})
    assert window.frames == expected
    # Likewise where the folder was thinned to these views: numbers decide, not places.
    (thinned,) = PROTOCOLS[protocol].frames("dtu", {"dtu/scan1": list(FORWARDS)})
    assert [FORWARDS[index] for index in thinned.frames] == list(expected)


def write_scan(folder):
    """A scan of the pack for testing: waves on a table, of which a mask keeps the middle."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    for view in range(VIEWS):
        name, angle = f"{view:08d}", 0.02 * view
        save_picture(folder / "images" / f"{name}.jpg", view, SIZE)
        pose = np.eye(4)
        pose[:3, :3] = [
            [np.cos(angle), 0, np.sin(angle)],
            [0, 1, 0],
            [-np.sin(angle), 0, np.cos(angle)],
        ]
        pose[:3, 3] = (10.0 * view, 3.0 * np.sin(view), 0.2 * view)
        k = matrix_text(((1500, 0, 800), (0, 1500, 600), (0, 0, 1)))  # of 1600x1200 pixels
        write(
            folder / "cams" / f"{name}_cam.txt",
            f"extrinsic\n{matrix_text(pose)}\nintrinsic\n{k}\n425 2.5\n",
        )
        depth = FAR + 40 * np.sin(columns / 7 + view) + 30 * np.cos(rows / 5)
        for kind in ("depths", "binary_masks"):
            (folder / kind).mkdir(exist_ok=True)
        np.save(folder / "depths" / f"{name}.npy", depth.astype(np.float32))
        mask = np.zeros(SIZE, np.uint8)
        mask[8:40, 8:56] = 255
        Image.fromarray(mask).save(folder / "binary_masks" / f"{name}.png")


def test_the_truth_of_a_dtu_scan_scores_zero_by_spann3r(tmp_path):
    write_scan(tmp_path / "dtu" / "scan1")
    protocol = PROTOCOLS["spann3r"]
    data = read_test_data(
        tmp_path / "dtu",
        layout="dtu",
        protocol=protocol,
        processing=Processing(),
        prepare=partial(fit_views, fit=ImageFit(size=SIZE)),
        trained_on=(),
        checked=True,  # the views are of no common surface
        progress=Silent(),
    )
    (truth,) = data.truths
    assert data.failed == [] and truth.unit == "m"
    assert [int(name) for name in truth.view_names] == list(FORWARDS[::-1])
    # Lengths are meters, so that the threshold of ICP, 0.1, is the 100 mm of the published code.
    assert truth.mask.sum(dim=(1, 2)).tolist() == [32 * 48] * len(FORWARDS)
    assert float(truth.points[truth.mask][:, 2].median()) == pytest.approx(FAR / 1000, rel=0.05)
    steps = (truth.poses[1:, :3, 3] - truth.poses[:-1, :3, 3]).norm(dim=-1)
    assert 0.02 < float(steps.min()) < float(steps.max()) < 0.2
    figures = figures_of([score_sequence(truth, predict_truth(truth), protocol)], protocol)
    for name in ("acc", "acc_mean", "comp", "comp_mean", "chamfer", "ate", "fused"):
        assert figures[name] == pytest.approx(0, abs=1e-3), name
    for name in ("nc", "fscore", "auc_3", "scale_norm"):
        assert figures[name] == pytest.approx(1, abs=1e-3), name

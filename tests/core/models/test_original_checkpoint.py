"""What is known of the original project's checkpoints beside their tensors."""

import numpy as np
import pytest
import torch
from PIL import Image

from distill3r_core.io.images.fit import ImageFit, fit_image
from distill3r_core.models.multiview.original_checkpoint import PREFIX, read_lightning

LONG_EDGE, MULTIPLE, SIZE = 518, 16, (224, 518)  # of the release's inference script


@pytest.fixture
def fit(tmp_path):
    """How pictures are fitted for an original checkpoint."""
    path = tmp_path / "epoch=59.ckpt"
    torch.save({"state_dict": {f"{PREFIX}decoder.dec_norm.weight": torch.ones(2)}}, path)
    _, metadata = read_lightning(path)
    assert metadata.size == SIZE
    return ImageFit.from_plain(metadata.fit)


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (300, 1000), (600, 600), (120, 200)])
def test_pictures_are_shown_to_an_original_checkpoint_as_its_own_script_does(fit, shape):
    rows, columns = shape
    pixels = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    longest = max(shape)
    filter_ = Image.Resampling.LANCZOS if longest > LONG_EDGE else Image.Resampling.BICUBIC
    sides = [round(side * LONG_EDGE / longest) for side in (columns, rows)]
    resized = Image.fromarray(pixels).resize((sides[0], sides[1]), filter_)
    (x, y), (half_x, half_y) = (
        [side // 2 for side in sides],
        [2 * (side // 2) // MULTIPLE * (MULTIPLE // 2) for side in sides],
    )
    if sides[0] == sides[1]:
        half_y = 3 * half_x // 4
    cropped = resized.crop((x - half_x, y - half_y, x + half_x, y + half_y))
    shown = torch.nn.functional.interpolate(
        torch.from_numpy(np.array(cropped)).movedim(-1, 0)[None].float(),
        size=SIZE, mode="bilinear", align_corners=False, antialias=True,
    )  # fmt: skip
    wanted = shown[0].movedim(0, -1).round().to(torch.uint8).numpy()
    found = fit_image(pixels, fit, portrait=rows > columns)
    assert not found.placement.transposed
    np.testing.assert_array_equal(found.image, wanted)

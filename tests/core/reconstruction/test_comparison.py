"""Two reconstructions of the same images: the similarity between them, the picture, the page."""

from dataclasses import replace

import numpy as np
import pytest
from browser import chromium
from exact_scene import exact_views, with_points
from PIL import Image
from scipy.spatial.transform import Rotation

from distill3r_core.errors import GeometryError
from distill3r_core.io.exports.cloud import Cloud
from distill3r_core.io.exports.cloud_picture import BACKGROUND, Eye, draw_cloud
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.comparison.alignment import (
    align_reconstructions,
    moved_cloud,
    moved_reconstruction,
)
from distill3r_core.reconstruction.comparison.pictures import (
    NamedCloud,
    write_comparison_page,
    write_picture,
)
from distill3r_core.reconstruction.point_cloud import clean_cloud
from distill3r_core.reconstruction.reconstruction import Reconstruction

DRAWN = "document.body.dataset.drawn !== undefined"


def exact(fit: ImageFit) -> Reconstruction:
    """The exact scene, as a model without error would predict it."""
    return Reconstruction(solve_cameras(*exact_views(fit)).views)


def spoiled(scene: Reconstruction, share: float) -> Reconstruction:
    """A share of the points ten times as far away, as beside the edges of things."""
    draws = np.random.default_rng(0)
    views = []
    for view in scene.views:
        local = view.aligned.local_map
        wild = draws.random(local.confidence.shape) < share
        points = with_points(local, local.points * np.where(wild, 10.0, 1.0)[..., None])
        views.append(replace(view, aligned=replace(view.aligned, local_map=points)))
    return replace(scene, views=tuple(views))


@pytest.fixture(scope="module")
def scenes():
    """One scene at two sizes and crops, the second in another frame and unit."""
    mine = exact(ImageFit(size=(56, 84)))
    other = exact(ImageFit(size=(70, 70), mode="crop"))
    turn = np.eye(3, 4)
    turn[:, :3] = 3.7 * Rotation.from_euler("xyz", [20, -70, 130], degrees=True).as_matrix()
    turn[:, 3] = [4.0, -2.0, 9.0]
    return mine, moved_reconstruction(other, turn), turn


def test_the_similarity_between_two_frames_is_found_whatever_the_sizes(scenes):
    mine, other, turn = scenes
    found = align_reconstructions(mine, other)
    assert found.views == tuple(view.camera.name for view in mine.views)
    whole = np.vstack([turn, [0, 0, 0, 1]])
    product = np.vstack([found.similarity, [0, 0, 0, 1]]) @ whole
    np.testing.assert_allclose(product, np.eye(4), atol=0.01)  # a pixel of the coarser map
    assert found.scale == pytest.approx(1 / 3.7, rel=5e-3)
    assert found.residual < 0.02 and found.within > 0.97
    assert found.degrees < 0.5 and found.centers < 0.01


def test_points_that_are_far_off_do_not_decide(scenes):
    mine, other, _ = scenes
    before = align_reconstructions(mine, other)
    after = align_reconstructions(mine, spoiled(other, 0.2))
    assert after.residual_mean > 5 * before.residual_mean
    assert after.scale == pytest.approx(before.scale, rel=0.02)
    assert after.residual < 0.03


def test_without_a_common_view_there_is_no_similarity(scenes):
    mine, other, _ = scenes
    with pytest.raises(GeometryError, match="no view in common"):
        align_reconstructions(
            replace(mine, views=mine.views[:1]), replace(other, views=other.views[1:])
        )


def test_near_points_hide_far_ones_in_the_picture():
    near = np.array([[0.0, 0.0, 1.0]], np.float32)
    far = np.stack(np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 60), [2.0]), -1)
    points = np.concatenate([near, far.reshape(-1, 3).astype(np.float32)])
    colors = np.full((len(points), 3), 200, np.uint8)
    colors[0] = (255, 0, 0)
    for order in (slice(None), slice(None, None, -1)):
        image = draw_cloud(
            Cloud(points[order], colors[order]), Eye(np.eye(4), (1.0, 1.0), 0.05), size=(60, 60)
        )
        assert (image[30, 30] == (255, 0, 0)).all()
        assert (image[20:40, 20:40] != BACKGROUND).any(-1).mean() > 0.99  # the surface is closed
        assert (image[2, 2] == BACKGROUND).all()


def test_the_page_shows_both_clouds_side_by_side_and_over_each_other(scenes, tmp_path):
    mine, other, _ = scenes
    found = align_reconstructions(mine, other)
    # Clouds of one color, so that a pixel says whose it is.
    clouds = []
    for name, scene, color in (("mine", mine, (0, 255, 0)), ("<other>", other, (255, 0, 255))):
        cleaned = clean_cloud(scene)
        painted = np.full_like(cleaned.cloud.colors, color)
        cleaned = replace(cleaned, cloud=replace(cleaned.cloud, colors=painted))
        if scene is other:
            scene = moved_reconstruction(scene, found.similarity)
            cleaned = moved_cloud(cleaned, found.similarity)
        clouds.append(NamedCloud(name, scene, cleaned))
    page_file = write_comparison_page(tmp_path / "p.html", clouds, title="both", about={})
    picture = write_picture(tmp_path / "p.png", clouds, caption="residual")
    drawn = np.asarray(Image.open(picture).convert("RGB"))[:330]  # the clouds alone
    greens, pinks = (
        np.argwhere((drawn == color).all(-1)) for color in ((0, 255, 0), (255, 0, 255))
    )
    assert min(len(greens), len(pinks)) > 1000
    assert greens[:, 1].max() < pinks[:, 1].min()  # each in its own panel
    with chromium(tmp_path / "profile", size=(1200, 700)) as page:
        page.open(page_file.as_uri(), ready=DRAWN)
        page.evaluate("control('frusta').click()")
        beside = page.screenshot()
        names = page.evaluate("layouts.map((layout) => layout.name)")
        assert names == ["side by side", "mine", "<other>", "over each other"]
        assert page.evaluate("marks.map((mark) => mark.textContent)") == ["mine", "<other>"]
        choose = "control('layout').selectedIndex = {}; "
        choose += "control('layout').dispatchEvent(new Event('input'))"
        page.evaluate(choose.format(2))
        alone = page.screenshot()
        page.evaluate(choose.format(3))
        over = page.screenshot()
        assert not page.errors
        assert page.requests == [page_file.as_uri()]
    middle = 254 + (1200 - 254) // 2
    green, pink = ((beside == color).all(-1) for color in ((0, 255, 0), (255, 0, 255)))
    assert green[:, :middle].sum() > 1000 and pink[:, middle:].sum() > 1000
    assert not green[:, middle:].any() and not pink[:, :middle].any()
    # Aligned: both halves show as much, but for what the second one's crop leaves out.
    assert 1 < green.sum() / pink.sum() < 1.8
    assert not (alone == (0, 255, 0)).all(-1).any()
    assert (alone == (255, 0, 255)).all(-1).sum() > 1000
    # Tinted there: neither color is left as it was.
    for color in ((0, 255, 0), (255, 0, 255)):
        assert not (over == color).all(-1).any()

"""What a teacher says of a pixel is stored with the picture of that pixel."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from distill3r_core.cache.store import TeacherCache
from distill3r_core.io.images.teacher_fit import TeacherFit
from distill3r_core.registry import Origin, adding_from, remove_entries_of
from distill3r_core.teachers.base import prepare_view
from distill3r_core.teachers.registry import TEACHERS, TeacherRecord
from distill3r_core.teachers.synthetic import SyntheticTeacher
from distill3r_core.types import AlignmentFacts, PreparedView, RawMaps, View


class ColorTeacher(SyntheticTeacher):
    """Says of every pixel that it lies at the place of its color: RGB is xyz.

    And that it aligned its views with a residual of a fifth of their number, one of them not.
    """

    name = "color"
    fit = TeacherFit(long_edge=128, multiple=16)

    def prepare(self, view: View) -> PreparedView:
        return prepare_view(view, self.fit)

    def predict(self, views: Sequence[PreparedView], **_: object) -> RawMaps:
        sure = [torch.full(view.image.shape[1:], 2.0) for view in views]
        return RawMaps(
            points_local=[view.image.movedim(0, -1) for view in views],
            confidence_local=sure,
            confidence_global=sure,
            global_from_local=torch.eye(3, 4).repeat(len(views), 1, 1),
            alignment=AlignmentFacts(residual=len(views) / 5, unplaced=1),
        )


@pytest.fixture
def photos(tmp_path):
    """A landscape sample with a portrait picture in it, and a portrait sample; smooth colors."""
    generator = np.random.default_rng(0)
    shapes = {"wide": [(90, 120), (120, 90)], "tall": [(120, 90), (130, 70)]}
    shapes["wide"].insert(0, (90, 160))
    for scene, sizes in shapes.items():
        (tmp_path / "photos" / scene).mkdir(parents=True)
        for number, (height, width) in enumerate(sizes):
            blobs = Image.fromarray(generator.integers(0, 255, (4, 5, 3), dtype=np.uint8))
            picture = blobs.resize((width, height), Image.Resampling.BICUBIC)
            picture.save(tmp_path / "photos" / scene / f"{number}.png")
    return tmp_path


@pytest.fixture
def color_teacher():
    origin = Origin("plugin", "color.py")
    with adding_from(origin):
        record = TeacherRecord(
            name="color",
            build=lambda settings, weights, device: ColorTeacher(),
            licenses=ColorTeacher.licenses,
            fit=ColorTeacher.fit,
        )
        TEACHERS.add(record.name, record)
    yield
    remove_entries_of(origin)


@pytest.mark.parametrize("fit", ["squash", "crop", "release"])
def test_a_map_lies_on_its_picture(cli_inprocess, photos, color_teacher, fit):
    assert cli_inprocess("manifest", "photos", "--views", "2", cwd=photos)[0] == 0
    status, _, error = cli_inprocess(
        "cache", "--teacher", "color", "--fit", fit, "--size", "56x84", cwd=photos
    )
    assert status == 0, error
    cache = TeacherCache(photos / "caches/teacher")
    sizes = set()
    for name in cache.names():
        sample = cache.read(name)
        sizes.add(tuple(sample.images.shape[-2:]))
        seen = sample.images.movedim(1, -1).float() / 255
        distance = (sample.targets.points_local - seen).abs().mean((1, 2, 3))
        mirrored = (sample.targets.points_local.flip(2) - seen).abs().mean((1, 2, 3))
        assert (distance < 0.02).all(), f"{name}: {distance}"
        assert (mirrored > 0.1).all(), "the pictures could not tell"
    portrait = (56, 84) if fit == "release" else (84, 56)
    assert sizes == {(56, 84), portrait}


def test_the_report_has_the_residual_and_the_views_without_a_pose(
    cli_inprocess, photos, color_teacher
):
    assert cli_inprocess("manifest", "photos", "--views", "2", cwd=photos)[0] == 0
    made = ("cache", "--teacher", "color", "--size", "56x84")
    status, out, error = cli_inprocess(*made, "--json", cwd=photos)
    assert status == 0, error
    samples = len(TeacherCache(photos / "caches/teacher").names())
    assert samples >= 2
    found = json.loads(out)["result"]["alignment"]
    assert found == {"residual": pytest.approx(2 / 5), "unplaced": samples}
    status, out, _ = cli_inprocess(*made, "-o", "again", cwd=photos)
    assert status == 0
    assert "alignment: mean residual" in out and "views without a pose" in out

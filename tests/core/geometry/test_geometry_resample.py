import pytest
import torch

from distill3r_core.geometry.resample import resample_bilinear, resample_nearest, whole

SIZES = [(14, 28), (28, 42), (40, 60), (9, 61)]


@pytest.mark.parametrize("size", SIZES)
def test_bilinear_of_the_whole_map_is_what_torch_interpolates(size):
    values = torch.randn(28, 42, 3)
    expected = torch.nn.functional.interpolate(
        values.permute(2, 0, 1)[None], size=size, mode="bilinear", align_corners=False
    )[0].permute(1, 2, 0)
    torch.testing.assert_close(resample_bilinear(values, whole(values), size), expected)


@pytest.mark.parametrize("resample", [resample_bilinear, resample_nearest])
def test_a_whole_box_is_a_crop_before_the_resize(resample):
    values = torch.randn(28, 42)
    cut = values[4:20, 6:36]
    torch.testing.assert_close(
        resample(values, (6.0, 4.0, 36.0, 20.0), (14, 14)), resample(cut, whole(cut), (14, 14))
    )


@pytest.mark.parametrize("resample", [resample_bilinear, resample_nearest])
def test_the_same_size_changes_nothing(resample):
    values = torch.randn(28, 42, 3)
    assert torch.equal(resample(values, whole(values), (28, 42)), values)


def test_bilinear_keeps_a_slope_straight_under_a_box_with_fractions():
    columns = (torch.arange(42.0) + 0.5).expand(28, 42)
    read = resample_bilinear(columns, (3.5, 2.0, 38.25, 20.0), (10, 20))
    expected = 3.5 + (torch.arange(20.0) + 0.5) * (38.25 - 3.5) / 20
    torch.testing.assert_close(read, expected.expand(10, 20))


@pytest.mark.parametrize("size", SIZES)
def test_nearest_invents_no_value(size):
    values = torch.randint(0, 1000, (28, 42))
    read = resample_nearest(values, (1.3, 0.0, 41.0, 27.5), size)
    assert read.shape == size
    assert torch.isin(read, values).all()


def test_nearest_takes_the_pixel_under_the_center():
    row = torch.arange(8)[None]
    assert resample_nearest(row, whole(row), (1, 4)).tolist() == [[1, 3, 5, 7]]
    assert resample_nearest(row, (1.0, 0.0, 7.0, 1.0), (1, 2)).tolist() == [[2, 5]]


def test_the_rounding_of_a_box_does_not_change_the_pixel():
    row = torch.arange(8)[None]
    assert resample_nearest(row, (0.0, 0.0, 8 - 1e-9, 1.0), (1, 4)).tolist() == [[1, 3, 5, 7]]

"""A student of a cache whose sizes go by shape sees pictures as that cache did."""

from distill3r_core.io.images.fit import ImageFit, fit_for
from distill3r_core.io.images.size_buckets import nearest_bucket


def test_sizes_by_shape_are_those_of_the_bucket_and_survive_being_stored() -> None:
    fit = ImageFit.from_plain(ImageFit(size=(224, 518), patch=14).as_plain())
    chosen = fit_for([(480, 640)], fit)
    assert chosen.size == nearest_bucket([(480, 640)], patches=592, patch=14)
    assert chosen.size[1] / chosen.size[0] < 1.5  # not squashed to 224x518
    assert fit_for([(640, 480)], fit) == chosen
    assert fit_for([(480, 640)], ImageFit(size=(224, 518))).size == (224, 518)


def test_other_chains_are_stored_as_they_were() -> None:
    assert "patch" not in ImageFit(size=(224, 518)).as_plain()

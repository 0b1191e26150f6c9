"""Numbers in messages, with nouns and verbs that agree with them."""

import pytest

from distill3r_core.report import counted


@pytest.mark.parametrize(
    ("given", "of", "said"),
    [
        ((0, "image"), None, "0 images"),
        ((1, "image"), None, "1 image"),
        ((2, "image"), None, "2 images"),
        ((1, "image", "have"), None, "1 image has"),
        ((2, "image", "are"), None, "2 images are"),
        ((1, "file", "belong"), None, "1 file belongs"),
        ((1, "image", "are"), 3, "1 of 3 images is"),
        ((2, "image", "were"), 3, "2 of 3 images were"),
        ((1, "image", "have"), 1, "1 of 1 image has"),
        ((0, "image", "have"), 1, "0 of 1 image has"),
        ((0, "image", "have"), 2, "0 of 2 images have"),
    ],
)
def test_nouns_and_verbs_agree_with_their_numbers(given, of, said):
    assert counted(*given, of=of) == said

"""The original project's choice of frames, held to recorded samples."""

import json
from pathlib import Path

from distill3r_core.data.windows import RELEASE, release_count, release_window, windows


def test_every_recorded_sample(golden_dir: Path) -> None:
    facts = json.loads((golden_dir / "sampling.json").read_text())
    assert facts["cases"]
    for case in facts["cases"]:
        total, views = case["total"], case["max_views"]
        chosen = release_window(total, views, case["sample"], seed=facts["seed"])
        assert list(chosen) == case["chosen"], case


def test_every_recorded_count(golden_dir: Path) -> None:
    facts = json.loads((golden_dir / "sampling.json").read_text())
    assert facts["counts"]
    for case in facts["counts"]:
        total, views, most = case["total"], case["max_views"], case["max_samples"]
        assert release_count(total, views, most) == case["samples"], case
        assert len(windows(total, RELEASE, views, samples=most)) == case["samples"], case

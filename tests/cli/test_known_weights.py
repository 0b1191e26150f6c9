"""`models list` knows every release that the notes beside the recorded networks name."""

import json
import re

import pytest

# Not downloaded by name: a file of it is read with `-m FILE`, as MASt3R's.
UNLISTED = {"cgrethen/MOONSt3R"}
_HUB = re.compile(r"hub `([\w.-]+/[\w.-]+)`")
_FILES = (
    re.compile(r"(dinov2_\w+?/dinov2_\w+?_pretrain\.pth)"),
    re.compile(r"(mobilenet_v3_large-\w+\.pth)"),
)


def test_every_release_of_the_notes_is_in_the_list(cli_inprocess, golden_dir, tmp_path):
    path = golden_dir / "WEIGHTS.md"
    if not path.is_file():
        pytest.skip("the recorded outputs have no notes about releases")
    notes = path.read_text().partition("\n## 3.")[0]
    status, out, err = cli_inprocess("models", "list", "--json", cwd=tmp_path)
    assert status == 0, err
    rows = json.loads(out)["result"]["models"]
    addresses = {row["address"] for row in rows}
    hubs = set(_HUB.findall(notes))
    files = {name for pattern in _FILES for name in pattern.findall(notes)}
    assert len(hubs) >= 14 and len(files) == 6 + 2
    hubs -= UNLISTED
    assert {name for name in hubs if f"https://huggingface.co/{name}" not in addresses} == set()
    assert {name for name in files if not any(a.endswith(name) for a in addresses)} == set()
    every = {"name", "license", "commercial", "parameters", "bytes", "state", "figure"}
    assert all(every <= row.keys() for row in rows)
    assert all(row["figure"] is None or row["figure"]["source"] for row in rows)

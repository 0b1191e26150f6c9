"""A pair student on the whole way, as a user types it."""

import json
from pathlib import Path

from posed_rooms import write_rendered_room


def test_a_pair_student_walks_the_whole_way(cli_inprocess, tmp_path: Path) -> None:
    pictures = []
    for seed in range(3):
        folder = tmp_path / "rooms" / f"room-{seed}"
        pictures += write_rendered_room(folder, seed, views=6, size=(64, 96))

    def typed(*arguments: str) -> str:
        status, out, err = cli_inprocess(*arguments, cwd=tmp_path)
        assert status == 0, f"{arguments}\n{out}\n{err}"
        return out

    typed("manifest", "rooms", "--views", "4")
    typed("cache", "--resume", "--size", "64x96")
    typed("train", "--preset", "pair-tiny", "--max-steps", "2", "-o", "run")
    scored = json.loads(typed("eval", "run", "--json"))
    assert scored["result"]["metrics"]["acc"] > 0
    typed("infer", *(str(path) for path in pictures[:2]), "-m", "run", "--ply", "-o", "two")
    assert (tmp_path / "two" / "scene.ply").is_file()
    typed("infer", *(str(path) for path in pictures[:4]), "-m", "run", "-o", "four")
    rows = json.loads(
        typed("bench", "-m", "run", "--views", "2,3", "--size", "64x96", "-o", "b", "--json")
    )
    assert [row["views"] for row in rows["result"]["rows"]] == [2, 3]
    typed("convert", "run", "student.safetensors")

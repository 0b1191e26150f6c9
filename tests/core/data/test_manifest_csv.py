"""A manifest is read back as it was written, and the original project's is read too."""

import csv
import json
from dataclasses import replace

import pandas
import polars
import pytest

from distill3r_core.data.manifest import COLUMNS, ManifestRow, read_manifest, write_manifest
from distill3r_core.errors import ConfigError, InputMissingError, NothingUsableError

ROW = ManifestRow(
    dataset="kitchen",
    split="train",
    scene_id="a/seq-01",
    sample_id="000003",
    image_path='images/with, comma and "quotes" 写真.png',
    K=(1.5, 0.0, 2.0, 0.0, 1.5, 2.0, 0.0, 0.0, 1.0),
    H=3,
    W=4,
    K_source="calibrated",
    depth_path="depth/x.png",
    depth_format="png16mm",
    pose=tuple(0.1 * n for n in range(16)),
    unit="m",
    camera="pinhole",
    order="number",
    picture="ab",
    content="cd",
    windows=(0, 2),
)
PLAIN = ManifestRow("kitchen", "val", "a/seq-01", "000001", "x.png", ROW.K, 3, 4, windows=())


def frame(number: int, **cells) -> ManifestRow:
    return replace(ROW, sample_id=f"{number:06d}", image_path=f"{number}.png", **cells)


def test_rows_come_back_in_frame_order(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [ROW, PLAIN])
    assert read_manifest(path).rows == (PLAIN, ROW)


def test_the_columns_stand_in_the_agreed_order(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [ROW])
    expected = (
        "dataset,split,scene_id,sample_id,image_path,K,H,W,K_source,depth_path,depth_format,"
        "pose,unit,camera,mask_path,order,picture,content,windows"
    )
    assert path.read_text().splitlines()[0] == expected
    with path.open(newline="") as file:
        cells = next(csv.DictReader(file))
    assert json.loads(cells["K"]) == list(ROW.K)
    assert len(json.loads(cells["pose"])) == 16
    assert cells["windows"] == "0;2"


def test_pandas_and_polars_read_the_same_cells(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [ROW, PLAIN])
    with path.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert pandas.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") == written
    assert polars.read_csv(path, infer_schema=False).fill_null("").to_dicts() == written
    # By their own guess of types too, sizes are numbers and what is missing is null.
    ours, theirs = pandas.read_csv(path), polars.read_csv(path)
    assert (ours["H"].sum(), theirs["H"].sum()) == (6, 6)
    assert ours["depth_path"].isna().tolist() == theirs["depth_path"].is_null().to_list()
    assert ours["depth_path"].isna().tolist() == [True, False]
    read = [str(ours["K"].iloc[0]), str(theirs["K"][0])]
    assert [json.loads(cell) for cell in read] == 2 * [list(ROW.K)]


def test_what_a_source_lacks_is_empty(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [PLAIN])
    with path.open(newline="") as file:
        cells = next(csv.DictReader(file))
    for name in ("depth_path", "depth_format", "pose", "picture", "content", "windows"):
        assert cells[name] == ""
    assert cells["K_source"] == cells["unit"] == "none"


def test_windows_make_samples_that_are_called_by_their_number(tmp_path) -> None:
    rows = [frame(n, windows=(n // 2,)) for n in range(4)]
    path = tmp_path / "manifest.csv"
    write_manifest(path, rows)
    samples = read_manifest(path).samples()
    assert [sample.name for sample in samples] == [
        "kitchen/a/seq-01/000",
        "kitchen/a/seq-01/001",
    ]
    assert [row.sample_id for row in samples[1].rows] == ["000002", "000003"]


def test_a_row_of_two_windows_is_in_both_samples(tmp_path) -> None:
    rows = [
        frame(0, windows=(0,)),
        frame(1, windows=(0, 1)),
        frame(2, windows=(1,)),
    ]
    path = tmp_path / "manifest.csv"
    write_manifest(path, rows)
    assert [len(sample.rows) for sample in read_manifest(path).samples()] == [2, 2]


def test_a_window_that_crosses_splits_is_an_error(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [ROW, frame(9, split="val")])
    with pytest.raises(ConfigError, match="crosses splits"):
        read_manifest(path).samples()


def test_millimeters_without_a_unit_are_an_error_that_names_the_row(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [frame(0, depth_path="depth/0.png", depth_format="png16mm", unit="none")])
    with pytest.raises(ConfigError, match=r"manifest\.csv.*2.*png16mm.*unit is none"):
        read_manifest(path)


def original_manifest(path, scenes: dict[str, int]) -> None:
    """As the original project writes it: its columns in its order, placeholder intrinsics."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", "split", "sample_id", "scene_id", "image_path", "K", "H", "W"])
        for scene, frames in scenes.items():
            for number in reversed(range(frames)):
                intrinsics = "[[960.0, 0, 480.0], [0, 960.0, 360.0], [0, 0, 1]]"
                name = f"{scene}_{number:03d}"
                path_cell = f"/data/{scene}_{number}.png"
                writer.writerow(["CO3D", "train", name, scene, path_cell, intrinsics, 720, 960])


def test_the_originals_manifest_is_cut_by_its_own_policy(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    original_manifest(path, {"long": 45, "short": 19})
    manifest = read_manifest(path)
    assert manifest.rows[0].windows is None
    assert manifest.rows[0].K_source == "none"
    samples = manifest.samples(views=20)
    assert [sample.name for sample in samples] == ["CO3D/long/000", "CO3D/long/001"]
    assert [row.sample_id for row in samples[1].rows] == [f"long_{n:03d}" for n in range(20, 40)]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("K", "[1, 2]", "not 9 numbers but 2"),
        ("H", "tall", "tall"),
        ("K_source", "guess", "none of calibrated, exif, none"),
        ("pose", "oops", "manifest.csv:2"),
        ("windows", "0;x", "manifest.csv:2"),
        ("windows", "-1", "manifest.csv:2: windows"),
        ("windows", "0;", "manifest.csv:2: windows"),
        ("windows", "1;1", "manifest.csv:2: windows"),
        ("split", "trian", "manifest.csv:2: split"),
        ("split", "", "manifest.csv:2: split"),
    ],
)
def test_a_broken_cell_is_named_with_its_line(tmp_path, column, value, message) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [ROW])
    with path.open(newline="") as file:
        header, cells = list(csv.reader(file))
    cells[COLUMNS.index(column)] = value
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, cells])
    with pytest.raises(ConfigError, match=message):
        read_manifest(path)


def test_other_files_are_not_manifests(tmp_path) -> None:
    with pytest.raises(InputMissingError, match="no manifest"):
        read_manifest(tmp_path / "nothing.csv")
    (tmp_path / "other.csv").write_text("path,reason\n")
    with pytest.raises(ConfigError, match="no column dataset"):
        read_manifest(tmp_path / "other.csv")
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    with pytest.raises(ConfigError, match="not a manifest"):
        read_manifest(tmp_path / "noise.csv")


def test_a_manifest_that_was_cut_anywhere_in_its_last_row_is_refused(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [frame(0), frame(1)])
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for size in range(last + 1, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=r"manifest\.csv:3"):
            read_manifest(path)


def test_a_picture_twice_in_a_scene_is_refused_with_its_line(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [frame(0), frame(0)])
    with pytest.raises(ConfigError, match=r"manifest\.csv:3: '0\.png' is in its scene twice"):
        read_manifest(path)


def test_the_mark_of_a_spreadsheet_changes_nothing(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [ROW])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_manifest(path).rows == (ROW,)


def test_a_manifest_without_rows_has_nothing_usable(tmp_path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, [])
    with pytest.raises(NothingUsableError, match="no rows"):
        read_manifest(path)

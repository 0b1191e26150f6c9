"""Names in files are not paths, and own files are not reached through links."""

import os
from contextlib import closing
from dataclasses import replace

import pytest
from PIL import Image
from small_caches import write_cache

from distill3r_core.cache.header import CacheHeader, PlannedSample
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.data.manifest import ManifestRow, read_manifest, write_manifest
from distill3r_core.errors import ConfigError, UnsafeFileError
from distill3r_core.files import open_own, path_below, remove_own, replacing, write_text
from distill3r_core.stages.cache.original_exchange import export_original
from distill3r_core.stages.manifest.frame_index import FrameEntry, FrameIndex, locked

OUTSIDE = [
    "../evil",
    "a/../../evil",
    "/tmp/evil",
    "",
    "a//b",
    ".",
    "a/.",
    "x" * 300,
    "a\0b",
    "\ud800",
]
INSIDE = ["a", "a/b/c", "..a/b..", "with space", "line\nbreak", "写真", "back\\slash"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_a_folder_is_refused(tmp_path, name) -> None:
    with pytest.raises(UnsafeFileError):
        path_below(tmp_path, name)


@pytest.mark.parametrize("name", INSIDE)
def test_any_other_name_is_a_path_below_the_folder(tmp_path, name) -> None:
    path = path_below(tmp_path, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("here")
    assert path.resolve().is_relative_to(tmp_path.resolve())


def test_a_name_that_leads_out_through_a_link_is_refused(tmp_path) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir(), other.mkdir()
    (folder / "link").symlink_to(other)
    (tmp_path / "alias").symlink_to(folder)
    with pytest.raises(UnsafeFileError, match="through a link"):
        path_below(folder, "link/evil")
    assert path_below(tmp_path / "alias", "a").name == "a"  # the folder itself may be a link


@pytest.mark.parametrize(
    "name", ["../../evil/000", "/tmp/distill3r-evil/000", "made/../../evil/000"]
)
def test_an_export_of_a_forged_cache_writes_nothing(tmp_path, name) -> None:
    header = TeacherCache(write_cache(tmp_path / "cache", held_out=0)).header
    sample = TeacherCache(tmp_path / "cache").read("made/00/000")
    plan = (*header.plan, PlannedSample(name, "content", "train"))
    forged: CacheHeader = replace(header, plan=plan)
    with CacheWriter(tmp_path / "forged", forged) as writer:
        detail = {"pictures": [""] * 4}
        for entry in plan:
            stored = writer.encoder().encode(
                entry.name, entry.content, sample.images, sample.targets, detail
            )
            writer.put(stored)
    with pytest.raises(UnsafeFileError):
        export_original(tmp_path / "forged", tmp_path / "deep" / "er" / "export")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "forged"]


@pytest.mark.parametrize("column", ["scene_id", "dataset"])
@pytest.mark.parametrize("name", ["../../../evil", "/evil", "a/./b"])
def test_a_manifest_with_a_name_that_leads_out_is_refused_by_line(tmp_path, column, name) -> None:
    row = ManifestRow("set", "train", "scene", "0", "0.png", (1.0,) * 9, 3, 4, windows=(0,))
    write_manifest(tmp_path / "manifest.csv", [row, replace(row, **{column: name})])
    with pytest.raises(ConfigError, match=rf"manifest\.csv:\d: {column}: "):
        read_manifest(tmp_path / "manifest.csv")


def test_a_lock_that_is_a_link_empties_no_other_file(tmp_path) -> None:
    precious, folder = tmp_path / "precious.txt", tmp_path / "data"
    precious.write_text("all my work")
    folder.mkdir()
    (folder / ".lock").symlink_to(precious)
    with pytest.raises(UnsafeFileError, match=r"\.lock is a link"), locked(folder):
        pass
    assert precious.read_text() == "all my work"


def test_a_lock_keeps_what_a_hard_link_shares_with_it(tmp_path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("all my work")
    os.link(precious, tmp_path / ".lock")
    with locked(tmp_path):
        pass
    assert precious.read_text() == "all my work"


def test_the_index_of_a_manifest_is_not_written_through_a_link(tmp_path) -> None:
    precious, folder = tmp_path / "precious.txt", tmp_path / "data"
    precious.write_text("all my work")
    folder.mkdir()
    (folder / ".frames.jsonl").symlink_to(precious)
    with pytest.raises(UnsafeFileError):
        FrameIndex(folder).add(FrameEntry("key", "made", ()))
    assert precious.read_text() == "all my work"


def test_the_index_of_a_manifest_grows_where_it_ended(tmp_path) -> None:
    for key in ("first", "second"):
        index = FrameIndex(tmp_path)
        index.add(FrameEntry(key, "made", ((1, 2),)))
        index.close()
    with closing(FrameIndex(tmp_path)) as again:
        assert all(again.get(key) is not None for key in ("first", "second"))


def test_a_file_is_replaced_not_written_through_a_link(tmp_path) -> None:
    precious = tmp_path / "precious.png"
    precious.write_text("all my work")
    result = tmp_path / "result.png"
    result.symlink_to(precious)
    (tmp_path / f".result.{os.getpid()}.partial.png").symlink_to(precious)
    with replacing(result) as beside:
        Image.new("RGB", (2, 2)).save(beside)
    write_text(tmp_path / "a.txt", "text")
    assert precious.read_text() == "all my work"
    assert not result.is_symlink()
    with Image.open(result) as image:
        assert image.size == (2, 2)


def test_a_pipe_is_no_own_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises((UnsafeFileError, IsADirectoryError)):
            os.close(open_own(path))


def test_only_the_link_is_removed(tmp_path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    (folder / "deep").mkdir(parents=True)
    link.symlink_to(folder)
    remove_own(link)
    assert folder.is_dir() and not link.is_symlink()
    remove_own(folder)
    remove_own(tmp_path / "absent")
    assert not folder.exists()

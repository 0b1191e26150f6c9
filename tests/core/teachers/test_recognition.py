"""A weight file says by its tensors whose it is."""

import json

import pytest
import torch
from official_folders import STEMS, official_tensors, write_folder, write_pickle
from safetensors.torch import save_file

from distill3r_core.errors import WeightsError
from distill3r_core.teachers import TEACHERS, build_teacher
from distill3r_core.teachers.recognition import recognize_teacher

# Of sizes that are nobody's, the release with the stricter license.
EXPECTED = {name: "da3-large" if name.startswith("da3") else name for name in STEMS}


@pytest.mark.parametrize("name", STEMS)
def test_folders_and_files_are_recognized_whatever_they_are_called(golden_dir, tmp_path, name):
    folder = write_folder(tmp_path / "some-folder", golden_dir, name)
    for path in (folder, folder / "model.safetensors"):
        found = recognize_teacher(path, TEACHERS)
        assert found is not None and found[0].name == EXPECTED[name]
        assert found[1] == folder / "model.safetensors"


def test_a_pickle_and_what_is_said_beside_the_tensors_count(golden_dir, tmp_path):
    found = recognize_teacher(write_pickle(tmp_path / "a.pth", golden_dir, "mast3r"), TEACHERS)
    assert found is not None and found[0].name == "mast3r"
    folder = write_folder(tmp_path / "linear", golden_dir, "dust3r-512-linear")
    (folder / "config.json").write_text(json.dumps({"img_size": [224, 224]}))
    found = recognize_teacher(folder, TEACHERS)
    assert found is not None and found[0].name == "dust3r-224-linear"


@pytest.mark.parametrize("file", ["model.pt", "vggt_1B_commercial.pt"])
def test_a_folder_of_vggt_may_hold_any_of_its_files(
    cli_inprocess, golden_dir, tmp_path, file, monkeypatch
):
    folder = tmp_path / "home" / "vggt"
    folder.mkdir(parents=True)
    tensors = official_tensors(golden_dir, "vggt")
    torch.save(tensors, folder / file)
    found = recognize_teacher(folder, TEACHERS)
    assert found is not None and (found[0].name, found[1]) == ("vggt", folder / file)
    network = build_teacher("vggt", folder).network.network
    assert torch.equal(network.aggregator.camera_token, tensors["aggregator.camera_token"])
    # The model is there, so what is missing is the input.
    status, _, error = cli_inprocess("infer", "nowhere", "-m", str(folder), cwd=tmp_path)
    assert status == 3 and "nowhere" in error and "models download" not in error
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hub"))
    status, out, _ = cli_inprocess("models", "path", "vggt", cwd=tmp_path)
    assert status == 0 and str(folder) in out.strip()
    assert cli_inprocess("infer", "nowhere", "-m", "vggt", cwd=tmp_path)[0] == 3


def test_published_sizes_tell_the_releases_of_one_network_apart(tmp_path, golden_dir):
    for stem, name in (("da3_small", "da3-small"), ("da3_base", "da3-base")):
        facts = json.loads((golden_dir / f"{stem}.keys.json").read_text())
        prefix = facts["checkpoint_key_prefix"]
        with torch.device("meta"):
            tensors = {prefix + key: torch.empty(shape) for key, shape in facts["state_dict"]}
        record = TEACHERS[name]
        assert record.cost is not None
        assert record.cost.read(tensors) == record.cost.published


def test_what_is_no_teachers_is_not_taken_for_one(tmp_path):
    save_file({"patch_embed.proj.weight": torch.zeros(4, 3, 14, 14)}, tmp_path / "a.safetensors")
    assert recognize_teacher(tmp_path / "a.safetensors", TEACHERS) is None
    assert recognize_teacher(tmp_path, TEACHERS) is None
    (tmp_path / "b.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0short")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        recognize_teacher(tmp_path / "b.safetensors", TEACHERS)

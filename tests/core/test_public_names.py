"""What other programs import is there, and costs nothing until it is used."""

import subprocess
import sys

import pytest

import distill3r_core


@pytest.mark.parametrize("name", distill3r_core.__all__)
def test_every_public_name_is_there(name):
    assert getattr(distill3r_core, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="build_studnet"):
        _ = distill3r_core.build_studnet


def test_public_names_import_no_writer_of_files():
    code = """
import sys, distill3r_core
names = [getattr(distill3r_core, name) for name in distill3r_core.__all__]
sys.exit(", ".join({"plyfile", "trimesh"} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_package_imports_no_torch():
    code = "import sys, distill3r_core; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

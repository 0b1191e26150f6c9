import subprocess
import sys

import pytest

from distill3r_core import extend, plugins
from distill3r_core.errors import ConfigError, InputMissingError
from distill3r_core.registry import Registry

SHAPES = Registry("shape")
SHAPES.add("cube", 1)


@pytest.fixture(autouse=True)
def clean():
    yield
    plugins.unload_all()


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "shapes", type(sys)("shapes"))
    sys.modules["shapes"].SHAPES = SHAPES

    def to_write(text, name="mine.py"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to_write


BALL = "from shapes import SHAPES\nSHAPES.add('ball', 2)\n"


def test_what_a_plugin_registers_is_known_until_it_is_unloaded(write):
    path = write(BALL)
    plugins.load(path)
    assert SHAPES["ball"] == 2
    assert str(SHAPES.origin("ball")) == f"the plugin {path}"
    assert plugins.loaded_paths() == [str(path)]
    plugins.unload_all()
    assert list(SHAPES) == ["cube"]
    assert plugins.hashes() == {}


def test_the_same_bytes_are_loaded_once(write):
    plugins.load(write(BALL))
    plugins.load(write(BALL, "copy.py"))
    assert list(plugins.hashes()) == ["mine.py"]


def test_another_byte_is_another_hash(write):
    plugins.load(write(BALL))
    (before,) = plugins.hashes().values()
    plugins.unload_all()
    plugins.load(write(BALL + "#"))
    (after,) = plugins.hashes().values()
    assert before != after
    assert len(after) == 32  # 128 bits


def test_a_plugin_can_define_dataclasses_and_pickle_their_objects(write):
    text = (
        "import pickle\nfrom dataclasses import dataclass\nfrom shapes import SHAPES\n"
        "@dataclass(frozen=True)\nclass Shape:\n    sides: int\n"
        "SHAPES.add('hexagon', pickle.loads(pickle.dumps(Shape(6))))\n"
    )
    plugins.load(write(text))
    assert SHAPES["hexagon"].sides == 6


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\nx = (\n", "line 2: it is not valid Python"),
        ("x = 1\n\nx.y\n", "line 3: AttributeError: 'int' object has no attribute 'y'"),
        ("def f():\n    raise KeyError\n\nf()\n", "line 2: KeyError"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("import shapeses\n", "line 1: ModuleNotFoundError"),
        ("import json\njson.loads('{')\n", "line 2: JSONDecodeError"),
        (b"\x89PNG\r\n\x1a\n\x00\x01", "not valid Python"),
        ("from shapes import SHAPES\nSHAPES.add('cube', 3)\n", "line 2: the plugin"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named_with_its_line(write, text, reason):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        plugins.load(path)
    assert caught.value.message.startswith(f"cannot load the plugin {path}")
    assert reason in caught.value.message


def test_a_taken_name_is_refused_with_both_owners(write):
    plugins.load(write(BALL))
    with pytest.raises(ConfigError, match=r"the plugin .*other\.py and the plugin .*mine\.py both"):
        plugins.load(write(BALL + "#", "other.py"))


def test_nothing_stays_of_a_file_that_fails_half_way(write):
    with pytest.raises(ConfigError):
        plugins.load(write(BALL + "1 / 0\n"))
    assert list(SHAPES) == ["cube"]
    plugins.load(write(BALL))
    assert SHAPES["ball"] == 2


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputMissingError, match=r"no plugin .*nowhere\.py"):
        plugins.load(tmp_path / "nowhere.py")
    with pytest.raises(ConfigError, match="cannot read the plugin"):
        plugins.load(tmp_path)


def test_two_plugins_of_one_file_name_are_refused(write, tmp_path):
    plugins.load(write(BALL))
    (tmp_path / "deeper").mkdir()
    with pytest.raises(ConfigError, match="the same file name"):
        plugins.load(write(BALL + "#", "deeper/mine.py"))


def test_entries_of_this_program_belong_to_it_although_a_plugin_imports_them_first(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from distill3r_core.extend import TEACHERS\n")
    code = (
        "from distill3r_core import extend, plugins\n"
        f"extend.load_plugins([{str(path)!r}])\n"
        "plugins.unload_all()\n"
        "assert 'synthetic' in extend.TEACHERS\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", extend.__all__)
def test_every_name_for_plugins_is_there(name):
    assert getattr(extend, name) is not None


def test_importing_the_names_for_plugins_imports_no_torch():
    code = "import sys, distill3r_core.extend; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

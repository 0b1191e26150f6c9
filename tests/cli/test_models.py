"""`distill3r models`: list, path and download, against a server on this machine."""

import hashlib
import json
import os
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from distill3r_core.io import proxies
from distill3r_core.models import StudentMetadata, build_student, save_student
from distill3r_core.models.encoders import dune_weights as weights

NAME = "dune-vits-448"
CONTENT = bytes(range(256)) * 20_000  # 5 MB


class Server(ThreadingHTTPServer):
    """Serves one file; may cut the connection, change the file, or ignore ranges."""

    content = CONTENT
    version = '"one"'
    cut_after: int | None = None
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/dune/file.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        server.paths.append(self.path)
        start = 0
        if asked and server.ranges and self.headers.get("If-Range") == server.version:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start > len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.version)
        self.end_headers()
        if server.cut_after is not None:
            self.wfile.write(body[: server.cut_after])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path, monkeypatch, server):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "home"))
    publish(monkeypatch, url=server.url)
    return tmp_path / "home"


def publish(monkeypatch, **changes) -> None:
    entry = replace(weights.DUNE_FILES[NAME], **changes)
    monkeypatch.setitem(weights.DUNE_FILES._entries, NAME, entry)


def place():
    return weights.DUNE_FILES[NAME].place


def test_the_list_says_of_every_model_what_it_may_be_used_for(cli_inprocess, home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = cli_inprocess("models", "list", cwd=home.parent)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    status, text, _ = cli_inprocess("models", "list", "--json", cwd=home.parent)
    rows = {row["name"]: row for row in json.loads(text)["result"]["models"]}
    assert all(out.count(f" {name} ") == 1 for name in rows)  # one line each, in one table
    assert {row["commercial"] for row in rows.values()} == {"yes", "no", "unclear"}
    for name in ("da3-small", "da3-base", "vggt-commercial", "dinov2-vits14", "mobilenetv3-large"):
        assert rows[name]["commercial"] == "yes", name
    for name in ("fast3r", "vggt", "pi3", "mast3r", "dust3r-512-dpt", "dune-vits-448"):
        assert rows[name]["commercial"] == "no", name
    for row in rows.values():
        assert row["bytes"] > 1e6 and row["license"] and row["state"] == "missing"
        assert row["address"].startswith("https://") or row["name"] == NAME
        # float32 throughout
        if row["parameters"] is not None:
            assert row["bytes"] == pytest.approx(4 * row["parameters"], rel=0.05), row["name"]
    figure = rows["da3-small"]["figure"]
    assert "0.476" in figure["text"] and "0.191" in figure["text"] and figure["source"]


def test_a_file_is_downloaded_by_name_and_then_found(cli_inprocess, home, server, tmp_path):
    status, _, error = cli_inprocess("models", "path", NAME, cwd=tmp_path)
    assert status == 3
    assert str(place()) in error
    assert f"distill3r models download {NAME}" in error
    assert not server.asked

    status, out, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 0, error
    assert place().read_bytes() == CONTENT
    assert [path.name for path in place().parent.iterdir()] == [place().name]
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert f"unverified, SHA-256 {digest}" in error
    assert out.strip() == str(place())

    status, out, _ = cli_inprocess("models", "list", "--json", cwd=tmp_path)
    rows = {row["name"]: row for row in json.loads(out)["result"]["models"]}
    assert rows[NAME]["state"] == "unverified"
    assert rows[NAME]["sha256"] == digest
    asked = len(server.asked)
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 0
    assert "here already" in error
    assert len(server.asked) == asked


def test_a_download_that_was_cut_off_is_continued(cli_inprocess, home, server, tmp_path):
    server.cut_after = 3_000_000
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 3
    assert "bytes are missing" in error
    assert "run again to continue" in error
    assert not place().exists()
    server.cut_after = None
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 0, error
    assert server.asked == [None, "bytes=3000000-"]
    assert place().read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["version", "ranges"])
def test_a_file_that_cannot_be_continued_is_fetched_anew(
    cli_inprocess, home, server, tmp_path, change
):
    server.cut_after = 2_000_000
    cli_inprocess("models", "download", NAME, cwd=tmp_path)
    server.cut_after = None
    if change == "version":
        server.version, server.content = '"two"', CONTENT[::-1]
    else:
        server.ranges = False
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 0, error
    assert place().read_bytes() == server.content


def test_a_partial_file_longer_than_the_published_one_is_fetched_anew(
    cli_inprocess, home, server, tmp_path
):
    server.cut_after = 2_000_000
    cli_inprocess("models", "download", NAME, cwd=tmp_path)
    server.cut_after, server.content = None, CONTENT[:1_000_000]
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 0, error
    assert place().read_bytes() == server.content


def test_another_file_than_the_published_one_is_thrown_away(
    cli_inprocess, home, server, tmp_path, monkeypatch
):
    publish(monkeypatch, sha256="0" * 64)
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 3
    assert "not the published file" in error
    assert not list(place().parent.iterdir())
    publish(monkeypatch, sha256=hashlib.sha256(CONTENT).hexdigest())
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 0, error
    assert "verified, SHA-256" in error
    assert "unverified" not in error
    place().write_bytes(b"damaged")
    _, out, _ = cli_inprocess("models", "list", "--json", cwd=tmp_path)
    rows = {row["name"]: row for row in json.loads(out)["result"]["models"]}
    assert rows[NAME]["state"] == "not the published file"


def test_offline_says_which_file_goes_where(cli_inprocess, home, server, tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        publish(monkeypatch, url=f"http://127.0.0.1:{closed.getsockname()[1]}/dune/file.pth")
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 3
    assert "refused" in error
    assert str(place().parent) in error


def test_a_full_disk_is_named_as_such(cli_inprocess, home, server, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "file.pth.partial")

    monkeypatch.setattr("distill3r_core.io.download._append", full)
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 4
    assert "No space left" in error


def test_the_hub_offline_says_which_files_go_where(cli, tmp_path):
    home = tmp_path / "home"
    environment = {"HF_HUB_OFFLINE": "1", "DISTILL3R_HOME": str(home), "HF_HOME": str(tmp_path)}
    done = cli("models", "download", "fast3r", cwd=tmp_path, env=environment)
    assert done.returncode == 3
    assert "model.safetensors and config.json" in done.stderr
    assert str(home / "fast3r") in done.stderr
    assert "Traceback" not in done.stderr


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def no_proxy(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_an_http_proxy_is_used_whichever_variable_names_it(
    cli_inprocess, home, server, tmp_path, monkeypatch, no_proxy, variable, scheme
):
    publish(monkeypatch, url="http://weights.invalid/dune/file.pth")  # only a proxy knows it
    monkeypatch.setenv(variable, f"{scheme}127.0.0.1:{server.server_port}")
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 0, error
    assert server.paths == ["http://weights.invalid/dune/file.pth"]
    assert place().read_bytes() == CONTENT


def test_no_proxy_is_used_where_the_environment_says_so(
    cli_inprocess, home, server, tmp_path, monkeypatch, no_proxy
):
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert (status, server.paths) == (0, ["/dune/file.pth"]), error


WRONG_PROXIES = [
    ("https_proxy", "http://someone:secret@127.0.0.1:9", "Connection refused"),
    ("ALL_PROXY", "socks5://127.0.0.1:9", "it needs an HTTP proxy"),
    ("HTTPS_PROXY", "socks4://127.0.0.1:9", "is not one of an HTTP or SOCKS5 proxy"),
    ("https_proxy", "127.0.0.1:port", "is not one of an HTTP or SOCKS5 proxy"),
    ("https_proxy", "http://", "is not one of an HTTP or SOCKS5 proxy"),
]


@pytest.mark.parametrize(("variable", "address", "reason"), WRONG_PROXIES)
def test_a_proxy_that_fails_is_named_as_the_cause(
    cli_inprocess, home, tmp_path, monkeypatch, no_proxy, variable, address, reason
):
    publish(monkeypatch, url="https://weights.invalid/dune/file.pth")
    monkeypatch.setenv(variable, address)
    status, _, error = cli_inprocess("models", "download", NAME, cwd=tmp_path)
    assert status == 3
    (line,) = [line for line in error.splitlines() if line.startswith("error:")]
    assert f"({variable})" in line
    assert reason in line
    assert "secret" not in error
    assert "bug in distill3r" not in error


HUB_FAILURES = [
    ({"https_proxy": "http://127.0.0.1:9"}, "the proxy http://127.0.0.1:9 (https_proxy)"),
    ({"ALL_PROXY": "socks4://127.0.0.1:9"}, "(ALL_PROXY) cannot be used"),
    ({"HTTPS_PROXY": "127.0.0.1:port"}, "(HTTPS_PROXY) cannot be used"),
    ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "Connection refused"),
]


@pytest.mark.parametrize(("environment", "reason"), HUB_FAILURES)
def test_a_download_from_the_hub_that_fails_is_one_line(
    cli, tmp_path, no_proxy, environment, reason
):
    places = {"DISTILL3R_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path)}
    done = cli("models", "download", "fast3r", cwd=tmp_path, env={**places, **environment})
    assert done.returncode == 3
    note, error, hint = done.stderr.splitlines()
    assert note.startswith("fast3r: ")
    assert error.startswith("error: ")
    assert reason in error
    assert hint.startswith("hint: ")


def test_a_socks_proxy_without_its_package_is_named(cli_inprocess, tmp_path, monkeypatch, no_proxy):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("all_proxy", "socks5h://127.0.0.1:9")
    monkeypatch.setattr(proxies, "_PACKAGE", "a_package_that_is_nowhere")
    status, _, error = cli_inprocess("models", "download", "fast3r", cwd=tmp_path)
    assert status == 3
    assert "the proxy socks5h://127.0.0.1:9 (all_proxy) needs the package" in error
    assert "pip install" in error


def test_an_unknown_name_is_answered_with_the_nearest(cli_inprocess, tmp_path):
    for command in ("path", "download"):
        status, _, error = cli_inprocess("models", command, "dune-vits-44", cwd=tmp_path)
        assert status == 2
        assert "dune-vits-448" in error


def test_bare_models_is_help(cli_inprocess, tmp_path):
    status, out, _ = cli_inprocess("models", cwd=tmp_path)
    assert status == 2
    for command in ("list", "path", "download"):
        assert command in out


def test_convert_needs_a_suffix_it_knows_and_an_input(cli_inprocess, tmp_path):
    status, _, error = cli_inprocess("convert", "a.ckpt", "b.bin", cwd=tmp_path)
    assert status == 2
    assert ".safetensors or .ckpt" in error
    status, _, error = cli_inprocess("convert", "a.ckpt", "b.safetensors", cwd=tmp_path)
    assert status == 3
    assert "a.ckpt" in error


def test_convert_does_not_write_over_a_folder(cli_inprocess, tmp_path):
    student = build_student("tiny")
    metadata = StudentMetadata(preset="tiny", spec=student.spec, size=(70, 98))
    save_student(tmp_path / "in.safetensors", student, metadata)
    (tmp_path / "out.safetensors").mkdir()
    status, _, err = cli_inprocess(
        "convert", "in.safetensors", "out.safetensors", "--overwrite", cwd=tmp_path
    )
    assert status == 2
    assert "out.safetensors is a folder" in err


def test_a_file_of_another_kind_is_named_without_torchs_advice(cli_inprocess, tmp_path):
    (tmp_path / "text.ckpt").write_text("no pickle")
    status, _, err = cli_inprocess("convert", "text.ckpt", "out.safetensors", cwd=tmp_path)
    assert status == 3
    assert "cannot read text.ckpt" in err
    assert "weights_only" not in err

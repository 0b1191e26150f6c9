"""The viewer's address: what cannot be listened at is refused before anything waits for it."""

import http.client
from contextlib import closing

import pytest
from PIL import Image

from distill3r_core.errors import ConfigError, FailedError, RequestError
from distill3r_core.stages.view import _is_own, _open, _own_origin_only, _thumbnail, view


@pytest.mark.parametrize("port", [-1, 0, 65536, 99999])
def test_a_port_that_does_not_exist_is_refused(tmp_path, port) -> None:
    with pytest.raises(ConfigError, match=f"no port {port}"):
        view(tmp_path, port=port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(tmp_path, host) -> None:
    with pytest.raises(RequestError, match=f"cannot listen at {host}:8080"):
        view(tmp_path, host=host)


def test_an_empty_host_does_not_bind_all_interfaces(tmp_path) -> None:
    with pytest.raises(ConfigError, match="binds all interfaces"):
        view(tmp_path, host="")


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 no more"], ids=["empty", "cut"])
def test_a_damaged_picture_leaves_its_frustum_without_one(tmp_path, content) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "v0.jpg").write_bytes(content)
    assert _thumbnail("v0", _open(tmp_path)) is None
    Image.new("RGB", (400, 300)).save(tmp_path / "images" / "v0.jpg")
    assert _thumbnail("v0", _open(tmp_path)).shape == (180, 240, 3)


@pytest.mark.parametrize(
    "record", [b"\xff", b"[]", b"{}", b'{"files": null}'], ids=["bytes", "list", "empty", "null"]
)
def test_a_damaged_record_is_named(tmp_path, record) -> None:
    (tmp_path / "run.json").write_bytes(record)
    with pytest.raises(FailedError, match=r"run\.json"):
        view(tmp_path)


def test_a_result_in_the_making_is_not_shown(tmp_path) -> None:
    (tmp_path / ".started.json").write_text("{}")
    with pytest.raises(FailedError, match="not finished"):
        view(tmp_path)


def test_the_command_refuses_such_a_port_too(cli_inprocess, tmp_path) -> None:
    status, _, told = cli_inprocess("view", ".", "--port", "99999", cwd=tmp_path)
    assert status == 2
    assert "--port" in told


@pytest.mark.parametrize(
    ("asked", "origin", "own"),
    [
        ("127.0.0.1:8080", None, True),
        ("localhost:8080", "http://localhost:8080", True),
        ("127.0.0.1:8080", "http://evil.example", False),
        ("127.0.0.1:8080", "http://127.0.0.1:9999", False),
        ("127.0.0.1:8080", "null", False),
        ("evil.example:8080", None, False),
        ("evil.example:8080", "http://evil.example:8080", False),  # a name that leads here
        (None, None, False),
    ],
)
def test_only_the_page_itself_may_ask_this_machine(asked, origin, own):
    assert _is_own(asked, origin, host="127.0.0.1") is own


def test_a_named_address_answers_its_own_page_alone():
    assert _is_own("lab.example:8080", "http://lab.example:8080", host="0.0.0.0")
    assert not _is_own("lab.example:8080", "http://evil.example", host="0.0.0.0")


def test_the_server_refuses_foreign_origins_and_names():
    viser = pytest.importorskip("viser")
    with _own_origin_only("127.0.0.1"):
        server = viser.ViserServer(host="127.0.0.1", port=18080, verbose=False)
    try:
        port = server.get_port()

        def status(**headers: str) -> int:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                connection.request("GET", "/", headers=headers)
                with connection.getresponse() as response:
                    return response.status

        assert status() == 200
        assert status(Origin=f"http://127.0.0.1:{port}") == 200
        assert status(Origin="http://evil.example") == 403
        assert status(Host="evil.example") == 403
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        upgrade |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": "null"}
        assert status(**upgrade) == 403
    finally:
        server.stop()

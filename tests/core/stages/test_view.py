"""The viewer's address: what cannot be listened at is refused before anything waits for it."""

import pytest

from distill3r_core.errors import ConfigError, RequestError
from distill3r_core.stages.view import view


@pytest.mark.parametrize("port", [-1, 0, 65536, 99999])
def test_a_port_that_does_not_exist_is_refused(tmp_path, port) -> None:
    with pytest.raises(ConfigError, match=f"no port {port}"):
        view(tmp_path, port=port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(tmp_path, host) -> None:
    with pytest.raises(RequestError, match=f"cannot listen at {host}:8080"):
        view(tmp_path, host=host)


def test_the_command_refuses_such_a_port_too(cli_inprocess, tmp_path) -> None:
    status, _, told = cli_inprocess("view", ".", "--port", "99999", cwd=tmp_path)
    assert status == 2
    assert "--port" in told

"""A client that looks for a swarm or for plugins is told that there are none, as by a dockerd without them."""

import docker
import pytest

from tests.support.instance import Instance

NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


@pytest.mark.parametrize("command", ["node ls", "service ls", "secret ls", "config ls", "stack ls", "node inspect x"])
def test_the_cli_hears_that_there_is_no_swarm(moorage: Instance, command: str) -> None:
    said = moorage.docker(*command.split(), check=False)
    assert said.returncode == 1
    assert NO_SWARM in said.stderr


def test_leaving_a_swarm(moorage: Instance, client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.APIError, match="This node is not part of a swarm") as refused:
        client.swarm.leave()
    assert refused.value.status_code == 503
    assert "This node is not part of a swarm" in moorage.docker("swarm", "leave", check=False).stderr


def test_making_one_is_refused(moorage: Instance) -> None:
    said = moorage.docker("swarm", "init", check=False)
    assert said.returncode == 1
    assert "swarm mode is not offered by this engine" in said.stderr


def test_plugins(moorage: Instance, client: docker.DockerClient) -> None:
    assert client.plugins.list() == []
    assert moorage.docker("plugin", "ls", "-q").stdout == ""
    said = moorage.docker("plugin", "inspect", "x", check=False)
    assert (said.returncode, 'plugin "x" not found' in said.stderr) == (1, True)
    said = moorage.docker("plugin", "enable", "x", check=False)
    assert 'plugin "x" not found' in said.stderr
    assert "not offered" in moorage.docker("plugin", "install", "x", check=False).stderr

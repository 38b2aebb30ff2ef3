"""A container's life through docker-py and the CLI: each verb once done, once refused."""

import time
from typing import Any

import docker
import pytest
from docker.errors import APIError, NotFound

from tests.support.instance import Instance


def test_a_whole_life(moorage: Instance, client: "docker.DockerClient") -> None:
    container = client.containers.create("busybox", "sleep 100", name="life")
    assert container.status == "created"
    container.start()
    container.reload()
    assert container.status == "running"
    assert container.attrs["State"]["Pid"] > 0
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.rename("other")
    assert client.containers.get("other").id == container.id
    begun = container.attrs["State"]["StartedAt"]
    container.restart(timeout=0)
    container.reload()
    assert container.status == "running"
    assert container.attrs["State"]["StartedAt"] > begun
    container.stop(timeout=0)
    container.reload()
    assert (container.status, container.attrs["State"]["ExitCode"]) == ("exited", 137)
    container.remove()
    with pytest.raises(NotFound, match="No such container"):
        client.containers.get(container.id)


def test_the_stop_signal_comes_before_the_kill(client: "docker.DockerClient") -> None:
    trap = 'trap "echo stopped; exit 7" USR1; echo ready; while :; do sleep 0.05; done'
    container = client.containers.run("busybox", ["sh", "-c", trap], detach=True, stop_signal="SIGUSR1")
    next(container.logs(stream=True, follow=True))  # it says that it is ready
    container.stop(timeout=60)
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 7
    assert container.logs() == b"ready\nstopped\n"
    container.remove()


@pytest.mark.parametrize(
    ("verb", "status", "text"),
    [
        ("stop", 304, ""),
        ("kill", 409, "is not running"),
        ("pause", 409, "is not running"),
        ("unpause", 409, "is not paused"),
    ],
)
def test_verbs_refused_by_what_does_not_run(client: "docker.DockerClient", verb: str, status: int, text: str) -> None:
    container = client.containers.create("busybox", "true")
    try:
        answer = client.api._post(client.api._url("/containers/{0}/" + verb, container.id))
        assert answer.status_code == status
        assert text in answer.text
    finally:
        container.remove()


def test_a_running_container_is_removed_only_by_force(client: "docker.DockerClient") -> None:
    container = client.containers.run("busybox", "sleep 100", detach=True)
    with pytest.raises(APIError, match="container is running") as refused:
        container.remove()
    assert refused.value.status_code == 409
    again = client.api._post(client.api._url("/containers/{0}/start", container.id))
    assert again.status_code == 304
    container.remove(force=True)


def test_waiting(client: "docker.DockerClient") -> None:
    container = client.containers.run("busybox", ["sh", "-c", "sleep 0.5; exit 5"], detach=True)
    assert container.wait() == {"StatusCode": 5}
    assert container.wait() == {"StatusCode": 5}
    bad = client.api._post(client.api._url("/containers/{0}/wait", container.id), params={"condition": "tired"})
    assert bad.status_code == 400
    container.remove()


def test_waiting_for_a_removal_tells_the_code(client: "docker.DockerClient") -> None:
    container = client.containers.create("busybox", ["sh", "-c", "exit 9"], auto_remove=True)
    container.start()
    assert container.wait(condition="removed")["StatusCode"] == 9


def test_restart_policy_and_its_count(moorage: Instance, client: "docker.DockerClient") -> None:
    container = client.containers.run(
        "busybox", "false", detach=True, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2}
    )
    moorage.until(lambda: _settled(container, 2), 60, "it was not restarted twice")
    container.remove()


def _settled(container: "docker.models.containers.Container", count: int) -> bool:
    container.reload()
    return bool(container.status == "exited" and container.attrs["RestartCount"] == count)


def test_listing(client: "docker.DockerClient") -> None:
    one = client.containers.create("busybox", "true", name="list-one", labels={"a": "1"})
    two = client.containers.run("busybox", "sleep 100", name="list-two", detach=True)

    def names(**how: Any) -> list[str]:
        return [container.name for container in client.containers.list(**how)]

    assert names() == ["list-two"]
    assert names(all=True) == ["list-two", "list-one"]
    assert names(all=True, filters={"label": "a=1"}) == ["list-one"]
    assert names(filters={"status": "created"}) == ["list-one"]
    assert names(all=True, filters={"before": "list-two"}) == ["list-one"]
    assert names(limit=1) == ["list-two"]
    with pytest.raises(APIError, match="invalid filter"):
        names(filters={"colour": "red"})
    one.remove()
    two.remove(force=True)


def test_events_of_a_restart_come_in_dockers_order(client: "docker.DockerClient") -> None:
    container = client.containers.run("busybox", "sleep 100", detach=True)
    begun = time.time()
    container.restart(timeout=0)
    seen = client.api.events(
        since=f"{begun:.9f}",
        until=f"{time.time():.9f}",
        decode=True,
        filters={"container": container.id, "type": "container"},
    )
    assert [event["Action"] for event in seen] == ["kill", "kill", "die", "stop", "start", "restart"]
    container.remove(force=True)


def test_events_are_followed(client: "docker.DockerClient") -> None:
    stream = client.events(decode=True, filters={"type": "container"})
    container = client.containers.create("busybox", "true")
    container.remove()
    first, second = next(stream), next(stream)
    stream.close()
    assert (first["Action"], second["Action"]) == ("create", "destroy")
    assert first["Actor"]["ID"] == container.id
    assert first["Actor"]["Attributes"]["image"] == "busybox"
    assert (first["status"], first["from"]) == ("create", "busybox")


def test_volumes(client: "docker.DockerClient") -> None:
    volume = client.volumes.create("mine", labels={"k": "v"})
    assert client.volumes.create("mine").attrs["CreatedAt"] == volume.attrs["CreatedAt"]
    assert [v.name for v in client.volumes.list(filters={"label": "k=v"})] == ["mine"]
    container = client.containers.create("busybox", "true", volumes=["mine:/data"])
    with pytest.raises(APIError, match="volume is in use") as refused:
        volume.remove()
    assert refused.value.status_code == 409
    container.remove()
    volume.remove()
    with pytest.raises(NotFound, match="no such volume"):
        client.volumes.get("mine")


def test_the_engine_describes_itself(client: "docker.DockerClient") -> None:
    info, version = client.info(), client.version()
    assert info["ID"] == client.info()["ID"]
    assert (info["Driver"], info["OSType"], info["Swarm"]["LocalNodeState"]) == ("overlay2", "linux", "inactive")
    assert (version["ApiVersion"], version["MinAPIVersion"], version["Os"]) == ("1.51", "1.24", "linux")
    assert "Engine" in [component["Name"] for component in version["Components"]]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "config cannot be empty in order to create a container"),
        ({"Image": "", "Hostname": "x"}, "no command specified"),
        ({"Image": "busybox", "HostConfig": {"IpcMode": "invalid"}}, "invalid IPC mode: invalid"),
        ({"Image": "busybox", "Env": ["=x"]}, "invalid environment variable: =x"),
    ],
)
def test_bodies_that_mean_nothing(client: "docker.DockerClient", body: dict[str, Any], text: str) -> None:
    answer = client.api._post_json(client.api._url("/containers/create"), data=body)
    assert (answer.status_code, answer.json()) == (400, {"message": text})
    assert client.containers.list(all=True) == []


def test_prune_takes_what_does_not_run(client: "docker.DockerClient") -> None:
    stopped = client.containers.create("busybox", "true", labels={"old": "1"})
    kept = client.containers.create("busybox", "true")
    running = client.containers.run("busybox", "sleep 100", detach=True, labels={"old": "1"})
    assert client.containers.prune(filters={"label": "old"})["ContainersDeleted"] == [stopped.id]
    assert client.containers.prune()["ContainersDeleted"] == [kept.id]
    assert client.containers.prune()["ContainersDeleted"] is None
    running.remove(force=True)

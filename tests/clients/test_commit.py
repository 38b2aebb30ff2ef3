"""`commit` through the real CLI and docker-py: files, configuration, events, pausing, errors, a kill in the middle."""

import json
import threading

import docker
import pytest
from docker.errors import APIError

from tests.support.instance import Instance

_CHANGES = """
mkdir -p /etc/made /gone/below /hidden/old
echo new >/etc/made/file; chown 12:34 /etc/made/file; chmod 4751 /etc/made/file
ln /etc/made/file /etc/made/second; ln -s file /etc/made/link; mkfifo /etc/made/pipe
mknod /etc/made/device c 1 3; touch -d '2020-02-03 04:05:06' /etc/made
"""


def inspect(moorage: Instance, name: str) -> dict[str, object]:
    """What `docker image inspect` says of one image."""
    found: dict[str, object] = json.loads(moorage.docker("image", "inspect", name).stdout)[0]
    return found


def test_what_was_changed_is_in_the_image(moorage: Instance) -> None:
    moorage.docker("run", "--name", "maker", "busybox", "sh", "-c", _CHANGES)
    said = moorage.docker("commit", "-m", "why not", "-a", "Mole <m@x.test>", "maker", "moles/made:1").stdout.strip()
    image = inspect(moorage, "moles/made:1")
    assert image["Id"] == said
    assert (image["Comment"], image["Author"]) == ("why not", "Mole <m@x.test>")
    assert image["Parent"] == inspect(moorage, "busybox")["Id"]
    listed = "stat -c '%n %a %u:%g %h %F' /etc/made/*; cat /etc/made/second; stat -c %y /etc/made"
    assert moorage.docker("run", "--rm", "moles/made:1", "sh", "-c", listed).stdout.splitlines() == [
        "/etc/made/device 644 0:0 1 character special file",
        "/etc/made/file 4751 12:34 2 regular file",
        "/etc/made/link 777 0:0 1 symbolic link",
        "/etc/made/pipe 644 0:0 1 fifo",
        "/etc/made/second 4751 12:34 2 regular file",
        "new",
        "2020-02-03 04:05:06.000000000 +0000",
    ]
    assert moorage.docker("image", "history", "-q", "--no-trunc", "moles/made:1").stdout.splitlines()[0] == said
    moorage.docker("rm", "maker")


def test_what_was_removed_is_gone(moorage: Instance) -> None:
    """A removed file, a removed directory, and one that was removed and made again."""
    moorage.docker("run", "--name", "maker", "busybox", "sh", "-c", _CHANGES + "echo x >/hidden/old/file")
    moorage.docker("commit", "maker", "made:2")
    again = "rm /etc/made/second; rm -r /gone; rm -r /hidden; mkdir /hidden; echo y >/hidden/young"
    moorage.docker("run", "--name", "remover", "made:2", "sh", "-c", again)
    moorage.docker("commit", "remover", "made:3")
    seen = moorage.docker(
        "run", "--rm", "made:3", "sh", "-c", "ls -d /etc/made/second /gone; find /hidden", check=False
    )
    assert seen.stdout.splitlines() == ["/hidden", "/hidden/young"]
    assert seen.stderr.count("No such file") == 2
    moorage.docker("save", "-o", f"{moorage.folder}/made.tar", "made:3")
    moorage.docker("rm", "maker", "remover")
    moorage.docker("rmi", "made:3", "made:2")
    moorage.docker("load", "-i", f"{moorage.folder}/made.tar")
    assert moorage.docker("run", "--rm", "made:3", "find", "/hidden").stdout.split() == ["/hidden", "/hidden/young"]


def test_nothing_changed_makes_no_layer(moorage: Instance) -> None:
    made = moorage.docker("create", "busybox", "true").stdout.strip()
    image = moorage.docker("commit", made).stdout.strip()
    before, after = inspect(moorage, "busybox"), inspect(moorage, image)
    assert after["RootFS"] == before["RootFS"]
    moorage.docker("rm", made)
    moorage.docker("rmi", image)


def test_the_configuration_is_the_containers_with_changes(moorage: Instance) -> None:
    options = ("-e", "A=1", "-l", "x=y", "-w", "/srv", "-p", "80", "-u", "7", "--entrypoint", "env")
    made = moorage.docker("create", *options, "busybox", "cmd").stdout.strip()
    changes = ("-c", 'CMD ["a", "b"]', "-c", "ENV A=2 B=3", "-c", "EXPOSE 53/udp", "-c", "LABEL z=w")
    moorage.docker("commit", *changes, made, "configured")
    config = inspect(moorage, "configured")["Config"]
    assert isinstance(config, dict)
    assert config["Cmd"] == ["a", "b"]
    assert config["Entrypoint"] == ["env"]
    assert config["Env"][:2] == ["A=2", "B=3"] or sorted(config["Env"])[:2] == ["A=2", "B=3"]
    assert config["Labels"] == {"x": "y", "z": "w"}
    assert (config["WorkingDir"], config["User"]) == ("/srv", "7")
    assert set(config["ExposedPorts"]) == {"80/tcp", "53/udp"}
    moorage.docker("rm", made)


def test_docker_py_gives_a_configuration(client: docker.DockerClient) -> None:
    made = client.containers.create("busybox", "true", environment=["KEPT=1"])
    image = made.commit("given", "v1", conf={"Cmd": ["date"], "Env": ["OWN=2"]}, changes=["USER 9"])
    assert image.tags == ["given:v1"]
    config = image.attrs["Config"]
    assert (config["Cmd"], config["User"]) == (["date"], "9")
    assert {"KEPT=1", "OWN=2"} <= set(config["Env"])
    made.remove()


def test_a_running_container_stands_still_meanwhile(moorage: Instance, client: docker.DockerClient) -> None:
    made = client.containers.run("busybox", "sleep 1000", detach=True, labels={"who": "me"})
    since = client.api.info()["SystemTime"]
    image = made.commit("stood")
    event = [
        event
        for event in client.api.events(since=since, until=client.api.info()["SystemTime"], decode=True)
        if event["Type"] == "container"
    ]
    assert [e["Action"] for e in event] == ["pause", "commit", "unpause"]
    told = event[1]["Actor"]["Attributes"]
    assert (told["imageID"], told["imageRef"], told["who"]) == (image.id, "stood:latest", "me")
    since = client.api.info()["SystemTime"]
    moorage.docker("commit", "--pause=false", made.id)
    until = client.api.info()["SystemTime"]
    seen = client.api.events(since=since, until=until, filters={"type": "container"}, decode=True)
    assert [e["Action"] for e in seen] == ["commit"]
    assert made.attrs["State"]["Status"] != "paused"
    made.remove(force=True)


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"container": "nosuch"}, 404, "No such container: nosuch"),
        ({"container": "there", "repo": "UPPER"}, 400, "invalid reference format: repository name (library/UPPER) "
         "must be lowercase"),
        ({"container": "there", "repo": "x", "tag": "no good"}, 400, "invalid tag format"),
        ({"container": "there", "changes": "FROM busybox"}, 400, "FROM is not a valid change command"),
    ],
)  # fmt: skip
def test_what_cannot_be_committed(
    client: docker.DockerClient, query: dict[str, str], status: int, message: str
) -> None:
    there = client.containers.create("busybox", "true", name="there")
    before = len(client.api.images(all=True))
    with pytest.raises(APIError) as refused:
        client.api._result(client.api._post(client.api._url("/commit"), params=query))
    assert (refused.value.status_code, refused.value.explanation) == (status, message)
    assert len(client.api.images(all=True)) == before
    there.remove()


def test_a_killed_commit_leaves_nothing_standing_still(moorage: Instance) -> None:
    made = moorage.docker("run", "-d", "busybox", "sleep", "1000").stdout.strip()
    moorage.docker("exec", made, "sh", "-c", "dd if=/dev/urandom of=/large bs=1M count=60 2>/dev/null")
    committing = threading.Thread(target=moorage.docker, args=("commit", made, "killed"), kwargs={"check": False})
    committing.start()
    moorage.until(lambda: _paused(moorage, made), 60, "it was not paused")
    moorage.kill_service()
    committing.join()
    moorage.until(
        lambda: moorage.docker("inspect", "-f", "{{.State.Status}}", made).stdout.strip() == "running",
        20,
        "it stands still",
    )
    moorage.docker("commit", made, "killed")
    moorage.docker("rm", "-f", made)
    moorage.docker("rmi", "killed")


def _paused(moorage: Instance, container: str) -> bool:
    return moorage.docker("inspect", "-f", "{{.State.Status}}", container).stdout.strip() == "paused"

"""The commands of a user's first day, typed into the docker CLI one after the other: each does what it says."""

import json
import os
import re
import signal
import subprocess
import tarfile
import urllib.request
from pathlib import Path

from docker import DockerClient

from tests.support.instance import Instance
from tests.support.ports import free_ports

SERVE = "mkdir /w$0; echo port $0 >/w$0/index.html; exec httpd -f -p $0 -h /w$0"


def told(moorage: Instance, *words: str) -> str:
    return moorage.docker(*words).stdout.strip()


def test_version_and_info(moorage: Instance) -> None:
    shown = told(moorage, "version", "--format", "{{.Server.APIVersion}} {{.Server.Os}}")
    assert shown == "1.55 linux"
    info = json.loads(told(moorage, "info", "--format", "{{json .}}"))
    assert (info["Driver"], info["DefaultRuntime"], info["Images"]) == ("overlay2", "runc", 1)
    moorage.kill_service()
    assert info["ID"] == json.loads(told(moorage, "info", "--format", "{{json .}}"))["ID"]
    shown = told(moorage, "info")
    assert "Storage Driver: overlay2" in shown
    version, commit = (
        words.rpartition(" ")[2]
        for words in subprocess.run(
            ["runc", "--version"], capture_output=True, text=True, check=True
        ).stdout.splitlines()[:2]
    )
    assert f" runc version: {commit}\n" in shown
    components = json.loads(told(moorage, "version", "--format", "{{json .Server.Components}}"))
    assert [part["Name"] for part in components[:4]] == ["Engine", "moorage", "runc", "conmon"]
    assert (components[2]["Version"], components[2]["Details"]["GitCommit"]) == (version, commit)
    for name in info["Runtimes"]:
        assert told(moorage, "run", "--rm", "--runtime", name, "busybox", "echo", "ran") == "ran"
        can = json.loads(info["Runtimes"][name]["status"]["org.opencontainers.runtime-spec.features"])
        assert "ro" in can["mountOptions"]


def test_an_answers_header_and_version_name_one_engine(moorage: Instance, client: DockerClient) -> None:
    told_by = client.api.get(client.api._url("/_ping", versioned_api=False)).headers
    version = client.version()
    assert told_by["Server"] == f"Docker/{version['Version']} (linux)"
    assert told(moorage, "info", "--format", "{{.ServerVersion}}") == version["Version"]
    assert told_by["Api-Version"] == told(moorage, "version", "--format", "{{.Server.APIVersion}}")


def test_a_container_from_create_to_rm(moorage: Instance) -> None:
    made = told(moorage, "create", "--name", "first", "-i", "busybox", "sh", "-c", "echo up; exec cat")
    assert re.fullmatch(r"[0-9a-f]{64}", made)
    assert told(moorage, "ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}") == "first created Created"
    assert told(moorage, "start", "first") == "first"
    assert told(moorage, "rename", "first", "second") == ""
    assert re.search(r"^\S+ +\d+ .* cat$", told(moorage, "top", "second"), re.MULTILINE)
    assert told(moorage, "exec", "second", "cat", "/proc/1/comm") == "cat"
    assert told(moorage, "pause", "second") == "second"
    assert told(moorage, "inspect", "-f", "{{.State.Paused}}", "second") == "true"
    assert told(moorage, "unpause", "second") == "second"
    assert told(moorage, "restart", "-t", "0", "second") == "second"
    assert told(moorage, "inspect", "-f", "{{.State.Running}} {{.Name}}", "second") == "true /second"
    assert told(moorage, "logs", "second") == "up\nup"
    assert told(moorage, "kill", "-s", "KILL", "second") == "second"
    assert told(moorage, "wait", "second") == "137"
    assert told(moorage, "rm", "second") == "second"
    assert told(moorage, "ps", "-aq") == ""


def test_attach_joins_what_runs(moorage: Instance) -> None:
    told(moorage, "run", "-d", "-i", "--name", "talks", "busybox", "sh", "-c", "read word; echo heard $word; exit 5")
    attached = moorage.docker("attach", "talks", check=False, stdin="this\n")
    assert (attached.returncode, attached.stdout) == (5, "heard this\n")
    told(moorage, "rm", "talks")


def test_stop_is_patient_and_events_tell_of_it(moorage: Instance) -> None:
    begun = json.loads(told(moorage, "info", "--format", "{{json .SystemTime}}"))
    told(
        moorage,
        "run",
        "-d",
        "--name",
        "stopped",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 3' TERM; while :; do sleep 0.1; done",
    )
    moorage.until(lambda: "sleep" in told(moorage, "top", "stopped"), 60, "the shell has not set its trap")
    told(moorage, "stop", "stopped")
    assert told(moorage, "inspect", "-f", "{{.State.ExitCode}}", "stopped") == "3"
    told(moorage, "rm", "stopped")
    until = json.loads(told(moorage, "info", "--format", "{{json .SystemTime}}"))
    words = ("--since", begun, "--until", until, "--filter", "type=container", "--format", "{{.Action}}")
    seen = [action for action in told(moorage, "events", *words).splitlines() if not action.startswith("top")]
    assert seen == ["create", "start", "kill", "die", "stop", "destroy"]


def test_events_are_followed(moorage: Instance) -> None:
    now = json.loads(told(moorage, "info", "--format", "{{json .SystemTime}}"))
    words = ("--since", now, "--filter", "container=followed", "--format", "{{.Action}}")
    with moorage.docker_popen("events", *words) as follower:
        assert follower.stdout is not None
        told(moorage, "create", "--rm", "--name", "followed", "busybox", "true")
        assert follower.stdout.readline() == b"create\n"
        told(moorage, "start", "followed")
        assert [follower.stdout.readline() for _ in range(3)] == [b"start\n", b"die\n", b"destroy\n"]
        follower.send_signal(signal.SIGINT)


def test_a_range_of_ports(moorage: Instance) -> None:
    first = free_ports(12)
    words = ("-p", f"127.0.0.1:{first}-{first + 1}:81-82", "-p", f"127.0.0.1:{first + 2}-{first + 11}:80")
    made = told(moorage, "run", "-d", *words, "busybox", "sh", "-c", f"sh -c '{SERVE}' 82 & sh -c '{SERVE}' 81")
    mapped = dict(line.split(" -> 127.0.0.1:") for line in told(moorage, "port", made).splitlines())
    assert (mapped["81/tcp"], mapped["82/tcp"]) == (str(first), str(first + 1))
    assert first + 2 <= int(mapped["80/tcp"]) <= first + 11
    moorage.until(lambda: page(first) == "port 81\n", 60, "the first does not answer")
    moorage.until(lambda: page(first + 1) == "port 82\n", 60, "the second does not answer")
    told(moorage, "rm", "-f", made)


def page(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_images(moorage: Instance, tmp_path: Path) -> None:
    listed = told(moorage, "images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").split()
    assert listed[0] == "busybox:latest"
    assert told(moorage, "image", "inspect", "-f", "{{.Id}}", "busybox").startswith(f"sha256:{listed[1]}")
    told(moorage, "tag", "busybox", "other/name:1")
    assert "other/name:1" in told(moorage, "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert len(told(moorage, "history", "-q", "busybox").splitlines()) >= 1
    assert told(moorage, "rmi", "other/name:1") == "Untagged: other/name:1"
    tree = tmp_path / "tree.tar"
    (tmp_path / "file").write_text("imported")
    with tarfile.open(tree, "w") as archive:
        archive.add(tmp_path / "file", "file")
    imported = told(moorage, "import", str(tree), "mine:latest")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", imported)
    assert told(moorage, "rmi", "mine").startswith("Untagged: mine:latest\nDeleted: sha256:")


def test_volumes(moorage: Instance) -> None:
    assert told(moorage, "volume", "create", "--label", "a=b", "held") == "held"
    assert told(moorage, "volume", "ls", "-q", "--filter", "label=a=b") == "held"
    shown = json.loads(told(moorage, "volume", "inspect", "held"))[0]
    assert (shown["Driver"], shown["Scope"], shown["Labels"]) == ("local", "local", {"a": "b"})
    assert os.path.isdir(shown["Mountpoint"])
    assert told(moorage, "volume", "rm", "held") == "held"
    assert not os.path.exists(shown["Mountpoint"])


def test_networks(moorage: Instance) -> None:
    names = told(moorage, "network", "ls", "--format", "{{.Name}}").splitlines()
    assert names == ["bridge", "host", "none"]
    bridge = json.loads(told(moorage, "network", "inspect", "bridge"))[0]
    container = told(moorage, "run", "-d", "busybox", "sleep", "100")
    address = told(moorage, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", container)
    joined = json.loads(told(moorage, "network", "inspect", "bridge"))[0]["Containers"]
    assert bridge["Containers"] == {}
    assert joined[container]["IPv4Address"].startswith(f"{address}/")
    told(moorage, "rm", "-f", container)


def test_a_client_that_is_not_there_any_more_costs_nothing(moorage: Instance) -> None:
    """A CLI killed in the middle of `run` leaves a container that is as any other, and a service that goes to sleep."""
    with moorage.docker_popen("run", "--name", "left", "busybox", "sleep", "100", stdin=subprocess.DEVNULL) as client:
        moorage.until(lambda: told(moorage, "ps", "-q", "--filter", "name=left"), 60, "the container does not run")
        client.kill()
    moorage.wait_idle()
    assert told(moorage, "inspect", "-f", "{{.State.Running}}", "left") == "true"
    told(moorage, "rm", "-f", "left")

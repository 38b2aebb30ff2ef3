"""Other OCI runtimes than runc, which daemon.json names."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient
from docker.errors import APIError, NotFound

from tests.support.instance import Instance


class Traced:
    """A runtime that notes what it is asked and has runc do it, as NVIDIA's does."""

    def __init__(self, folder: Path) -> None:
        self.path, self._log = folder / "traced-runtime", folder / "asked"
        self._log.touch()
        self.path.write_text(f'#!/bin/sh\necho "$@" >>{self._log}\nexec {shutil.which("runc")} "$@"\n')
        self.path.chmod(0o755)

    def asked(self) -> list[list[str]]:
        """The words of each call since the last look."""
        lines = self._log.read_text().splitlines()
        self._log.write_text("")
        return [line.split() for line in lines]

    def verbs(self) -> list[str]:
        """What was asked for since the last look."""
        known = {"create", "start", "exec", "pause", "resume", "update", "delete", "kill"}
        return [next(word for word in words if word in known) for words in self.asked() if known & set(words)]


@pytest.fixture
def traced(moorage: Instance, tmp_path: Path) -> Iterator[Traced]:
    made = Traced(tmp_path)
    moorage.configure({"runtimes": {"traced": {"path": str(made.path), "runtimeArgs": ["--debug"]}}})
    yield made
    Path(moorage.environment["MOORAGE_DAEMON_JSON"]).unlink(missing_ok=True)


def test_each_container_is_handled_by_its_runtime(moorage: Instance, client: DockerClient, traced: Traced) -> None:
    moorage.docker("run", "--rm", "busybox", "true")
    assert traced.verbs() == []
    made = client.containers.run("busybox", ["sleep", "1000"], detach=True, runtime="traced", stop_signal="KILL")
    assert made.attrs["HostConfig"]["Runtime"] == "traced"
    assert made.exec_run(["echo", "here"]).output == b"here\n"
    made.pause()
    moorage.kill_service()
    made = moorage.client().containers.get(made.id)
    made.unpause()
    made.update(mem_limit="64m", memswap_limit="64m")
    made.stop(timeout=0)
    assert made.wait()["StatusCode"] == 137
    asked = traced.asked()
    assert all("--debug" in words for words in asked if "features" not in words)
    verbs = [word for words in asked for word in words]
    for verb in ("create", "start", "exec", "pause", "resume", "update"):
        assert verb in verbs, asked
    made.restart()
    assert {"create", "start"} <= set(traced.verbs())
    made.remove(force=True)


def test_probes_are_run_by_the_containers_runtime(moorage: Instance, traced: Traced) -> None:
    moorage.docker(
        *("run", "-d", "--name", "probed", "--runtime=traced", "--health-cmd=true", "--health-interval=1s"),
        *("--stop-signal=KILL", "busybox", "sleep", "1000"),
    )
    moorage.until(
        lambda: moorage.docker("inspect", "-f", "{{.State.Health.Status}}", "probed").stdout == "healthy\n",
        60,
        "probes",
    )
    assert "exec" in traced.verbs()
    moorage.docker("rm", "-f", "probed")


def test_a_runtime_that_is_no_longer_named(moorage: Instance, client: DockerClient, traced: Traced) -> None:
    made = client.containers.run("busybox", ["sleep", "1000"], detach=True, runtime="traced", stop_signal="KILL")
    moorage.configure({})
    assert made.exec_run(["true"]).exit_code == 0
    made.stop(timeout=0)
    with pytest.raises(APIError, match="unknown or invalid runtime name: traced") as refused:
        made.start()
    assert refused.value.status_code == 400
    made.reload()
    assert (made.status, made.attrs["State"]["Pid"]) == ("exited", 0)
    made.remove()


def test_the_default_runtime(moorage: Instance, client: DockerClient, traced: Traced) -> None:
    before = client.containers.create("busybox", "true")
    moorage.configure({"runtimes": {"mine": {"path": str(traced.path)}}, "default-runtime": "mine"})
    info = client.info()
    assert info["DefaultRuntime"] == "mine"
    assert info["Runtimes"]["mine"]["path"] == str(traced.path)
    assert "ociVersionMax" in info["Runtimes"]["mine"]["status"]["org.opencontainers.runtime-spec.features"]
    after = client.containers.create("busybox", "true")
    assert [each.attrs["HostConfig"]["Runtime"] for each in (before, after)] == ["runc", "mine"]
    traced.asked()
    for made, verbs in ((before, False), (after, True)):
        made.start()
        made.wait()
        assert ("create" in traced.verbs()) is verbs
        made.remove()
    assert client.containers.run("busybox", ["echo", "x"], remove=True, runtime="runc") == b"x\n"
    assert traced.verbs() == []


def test_runtimes_that_cannot_be_had(moorage: Instance, client: DockerClient, traced: Traced) -> None:
    moorage.configure(
        {"runtimes": {"gone": {"path": "/nosuch/runtime"}, "shim": {"runtimeType": "io.containerd.kata.v2"}}}
    )
    for name, complaint in (
        ("nope", "unknown or invalid runtime name: nope"),
        ("shim", "runtime shim: this engine runs no shims"),
    ):
        with pytest.raises(APIError, match=complaint) as refused:
            client.containers.create("busybox", "true", runtime=name)
        assert refused.value.status_code == 400
    made = client.containers.create("busybox", "true", runtime="gone")
    with pytest.raises((APIError, NotFound), match='exec: "/nosuch/runtime"'):
        made.start()
    made.reload()
    assert made.attrs["State"]["ExitCode"] == 127
    made.remove()
    assert client.info()["Runtimes"]["gone"] == {"path": "/nosuch/runtime"}
    for wrong, complaint in (
        ({"runtimes": {"runc": {"path": "/x"}}}, "runtime name 'runc' is reserved"),
        ({"runtimes": {"x": {}}}, "runtime x: either a runtimeType or a path must be configured"),
        ({"default-runtime": "nope"}, "specified default runtime 'nope' does not exist"),
    ):
        moorage.configure(wrong)
        assert complaint in moorage.docker("create", "busybox", check=False).stderr

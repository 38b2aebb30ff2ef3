"""POST /build through the real CLI and docker-py: the classic builder's stream, cache, contexts, cancelling, kills."""

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest
from docker.errors import APIError, BuildError

from tests.support.dockerfiles import FILES, tar
from tests.support.instance import Instance
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.wire import Wire, request


def build(
    client: docker.DockerClient, dockerfile: str, files: dict[str, str | bytes] | None = None, **more: Any
) -> str:
    """Build; what was told, ids and all. Raises BuildError."""
    context = io.BytesIO(tar({**(files or {}), "Dockerfile": dockerfile}))
    told = ""
    for message in client.api.build(fileobj=context, custom_context=True, rm=True, decode=True, **more):
        if "error" in message:
            raise BuildError(message["error"], told)
        told += message.get("stream", "")
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A context on the disk."""
    path: Path = tmp_path_factory.mktemp("context")
    (path / "a").write_text("one")
    (path / "ignored").write_text("no")
    (path / ".dockerignore").write_text("ignored\n")
    (path / "Dockerfile").write_text("FROM busybox\nCOPY . /c\nRUN ls -a /c >/seen && cat /c/a\nCMD cat /seen\n")
    return path


def cli(moorage: Instance, *arguments: str, check: bool = True, stdin: bytes | None = None) -> Any:
    """`docker build` by the CLI's own classic builder."""
    done = subprocess.run(
        ["docker", "build", *arguments],
        env={**moorage.client_environment, "DOCKER_BUILDKIT": "0"},
        input=stdin or b"",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert not check or done.returncode == 0, (done.stdout, done.stderr, moorage.log(40))
    return done


def test_a_build_that_is_in_the_cache_makes_no_file(moorage: Instance) -> None:
    """Its context is looked at as it comes; one whose files are needed is unpacked in a directory of its own."""
    client, builds = moorage.client(), Path(moorage.root) / "tmp"
    dockerfile = "FROM busybox\nCOPY dir /c\nCOPY a /d/\nCMD x\n"
    files: dict[str, str | bytes] = {"dir/x": "of nobody else", "a": bytes(2_000_000)}
    build(client, dockerfile, files)
    before = builds.stat().st_mtime_ns
    assert build(client, dockerfile, files).count("Using cache") == 3
    assert builds.stat().st_mtime_ns == before
    assert build(client, dockerfile, {**files, "dir/x": "changed"}).count("Using cache") == 0
    assert builds.stat().st_mtime_ns != before


def test_docker_build(moorage: Instance, folder: Path) -> None:
    said = cli(moorage, "-t", "built:1", "-t", "built:2", str(folder)).stdout.decode().splitlines()
    assert "Step 1/4 : FROM busybox" in said
    assert "one" in "".join(said)
    assert said[-3].startswith("Successfully built ")
    assert said[-2:] == ["Successfully tagged built:1", "Successfully tagged built:2"]
    assert moorage.docker("run", "--rm", "built:2").stdout.split() == [".", "..", ".dockerignore", "Dockerfile", "a"]
    assert moorage.docker("ps", "-aq").stdout == ""
    image_id = cli(moorage, "-q", str(folder)).stdout.decode().strip()
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", "built:1").stdout.strip() == image_id


def test_a_second_build_uses_the_cache(moorage: Instance, folder: Path) -> None:
    cli(moorage, "-t", "cached", str(folder))
    said = cli(moorage, str(folder)).stdout.decode()
    assert said.count(" ---> Using cache") == 3
    assert cli(moorage, "--no-cache", str(folder)).stdout.decode().count("Using cache") == 0
    (folder / "a").write_text("two")
    said = cli(moorage, str(folder)).stdout.decode()
    assert said.count(" ---> Using cache") == 0
    assert "two" in said


def test_a_dockerfile_from_standard_input_and_elsewhere(moorage: Instance, folder: Path) -> None:
    said = cli(moorage, "-", stdin=b"FROM busybox\nRUN echo from stdin\n").stdout.decode()
    assert "from stdin" in said
    (folder / "other.Dockerfile").write_text("FROM busybox\nRUN echo other\n")
    assert "other" in cli(moorage, "-f", str(folder / "other.Dockerfile"), str(folder)).stdout.decode()


def test_a_dockerfile_elsewhere_for_a_context_that_ignores_nothing(moorage: Instance, tmp_path: Path) -> None:
    """The CLI then ends its archive with the last byte of a file that it has added, and not with a block."""
    (tmp_path / "context").mkdir()
    (tmp_path / "context/a").write_text("one")
    (tmp_path / "elsewhere").write_text("FROM busybox AS first\nCOPY . /c\nRUN ls -a /c >/seen\nCMD cat /seen\n")
    cli(moorage, "-t", "elsewhere", "--target", "first", "-f", str(tmp_path / "elsewhere"), str(tmp_path / "context"))
    assert moorage.docker("run", "--rm", "elsewhere").stdout.split() == [".", "..", "a"]


def test_a_failing_command(moorage: Instance) -> None:
    failed = cli(moorage, "-", check=False, stdin=b"FROM busybox\nRUN echo wrong >&2; exit 3\n")
    assert failed.returncode == 3
    assert "The command '/bin/sh -c echo wrong >&2; exit 3' returned a non-zero code: 3" in failed.stderr.decode()
    assert "\x1b[91mwrong\n\x1b[0m" in failed.stdout.decode()
    left = moorage.docker("ps", "-aq").stdout.split()
    assert len(left) == 1  # as with dockerd: it can be looked at
    moorage.docker("rm", *left)
    failed = cli(moorage, "--force-rm", "-", check=False, stdin=b"FROM busybox\nRUN exit 4\n")
    assert failed.returncode == 4
    assert moorage.docker("ps", "-aq").stdout == ""


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_compressed_contexts(moorage: Instance, client: docker.DockerClient, compression: str) -> None:
    files: dict[str, str | bytes] = {"Dockerfile": "FROM busybox\nCOPY a /\nRUN cat /a\n", "a": compression * 3}
    context = io.BytesIO(tar(files, f"w:{compression}"))
    told = "".join(
        m.get("stream", "") for m in client.api.build(fileobj=context, custom_context=True, decode=True, rm=True)
    )
    assert compression * 3 in told


def test_containers_of_steps_stay_when_asked(moorage: Instance, client: docker.DockerClient) -> None:
    context = io.BytesIO(tar({"Dockerfile": "FROM busybox\nRUN echo kept >/k\nENV A=1\n"}))
    list(client.api.build(fileobj=context, custom_context=True, rm=False, nocache=True))
    left = client.containers.list(all=True)
    assert len(left) == 2
    for container in left:
        container.remove()


def test_a_container_without_an_image_can_be_looked_at(client: docker.DockerClient) -> None:
    context = io.BytesIO(tar({"Dockerfile": "FROM scratch\nENV A=1\n"}))
    list(client.api.build(fileobj=context, custom_context=True, rm=False, nocache=True))
    (listed,) = client.api.containers(all=True, size=True)
    assert (listed["Image"], listed["ImageID"]) == ("", "")
    assert client.api.inspect_container(listed["Id"])["Image"] == ""
    assert client.api.df()["Containers"]
    assert client.api.diff(listed["Id"]) is None
    assert client.api.inspect_image(client.api.commit(listed["Id"])["Id"])["Parent"] == ""
    client.api.remove_container(listed["Id"])


def test_heredocs_and_modes(client: docker.DockerClient) -> None:
    told = build(
        client,
        "FROM busybox\nARG WHO=mole\nRUN <<EOF\nx=1\necho said $x\nEOF\n"
        "COPY --chmod=640 <<-A <<'B' /d/\n\thello $WHO\nA\n"
        "raw $WHO\nB\nRUN cat /d/A /d/B; stat -c %a /d/A\nRUN cat >/e <<E && cat /e\nin $WHO\nE\n",
    )
    assert "said 1" in told
    assert "hello mole\nraw $WHO\n640\n" in told
    assert "in mole\n" in told


def test_platforms_are_known(client: docker.DockerClient) -> None:
    told = build(
        client,
        "FROM --platform=$BUILDPLATFORM busybox\nARG TARGETOS\nARG TARGETARCH\n"
        "RUN echo =$TARGETOS/$TARGETARCH=$TARGETVARIANT=\n",
    )
    assert f"={client.info()['OSType']}/{client.version()['Arch']}==\n" in told


def test_a_quiet_build_that_fails_tells_all(moorage: Instance) -> None:
    failed = cli(moorage, "-q", "--force-rm", "-", check=False, stdin=b"FROM busybox\nRUN echo why; exit 5\n")
    assert failed.returncode == 5
    assert "returned a non-zero code: 5" in failed.stderr.decode()
    assert "why" in failed.stdout.decode() + failed.stderr.decode()


def test_what_needs_buildkit_says_so(client: docker.DockerClient) -> None:
    with pytest.raises(BuildError, match="the --mount option requires BuildKit"):
        build(client, "FROM busybox\nRUN --mount=type=tmpfs,target=/x true\n")


def test_buildkit_by_rest_takes_the_context_of_the_request(client: docker.DockerClient) -> None:
    """As Go programs without a session of their own ask for it."""
    context = tar(
        {"Dockerfile": "FROM busybox\nCOPY --chmod=741 a /\nRUN --mount=type=tmpfs,target=/x stat -c %a /a\n", "a": "x"}
    )
    url = client.api._url("/build?version=2&t=by-rest&labels={}", '{"l":"1"}')
    told = client.api._post(url, data=context, headers={"Content-Type": "application/x-tar"}).text
    messages = [json.loads(line) for line in told.splitlines()]
    assert messages[0]["id"] == "moby.buildkit.trace"
    assert any(
        b"\x0a741\x0a" in base64.b64decode(found["aux"]) or b"741" in base64.b64decode(found["aux"])
        for found in messages[:-1]
    )
    assert messages[-1] == {"id": "moby.image.id", "aux": {"ID": client.images.get("by-rest").id}}
    assert client.images.get("by-rest").labels == {"l": "1"}
    failed = client.api._post(url, data=tar({"Dockerfile": "FROM busybox\nRUN exit 3\n"})).text
    assert "did not complete successfully: exit code: 3" in json.loads(failed.splitlines()[-1])["error"]


def test_limits_reach_the_command(client: docker.DockerClient, limits_enforced: None) -> None:
    limits = {"memory": 64 << 20, "cpushares": 77, "cpusetcpus": "0"}
    told = build(
        client,
        "FROM busybox\nRUN ulimit -n; df -k /dev/shm | tail -1; grep ^Cpus_allowed_list /proc/self/status\n",
        container_limits=limits,
        shmsize=8 << 20,
    )
    assert " 8192 " in told
    assert "Cpus_allowed_list:\t0\n" in told


def test_cache_from_an_image_that_was_loaded(moorage: Instance, client: docker.DockerClient, tmp_path: Path) -> None:
    dockerfile = "FROM busybox\nRUN echo slow >/slow\nENV A=1\nRUN echo other >/other\n"
    build(client, dockerfile, tag="source:1")
    moorage.docker("save", "-o", str(tmp_path / "source.tar"), "source:1")
    moorage.docker("rmi", "source:1")
    assert "Using cache" not in build(client, dockerfile, nocache=True, tag="away:1")
    moorage.docker("rmi", "away:1")
    moorage.docker("load", "-i", str(tmp_path / "source.tar"))
    assert build(client, dockerfile, cache_from=["source:1"]).count("Using cache") == 3
    assert "Using cache" not in build(client, dockerfile.replace("slow", "fast"), cache_from=["source:1"])
    moorage.docker("rmi", "-f", "source:1")
    moorage.docker("image", "prune", "-f")


class _Files(BaseHTTPRequestHandler):
    content = {
        "/Dockerfile": b"FROM busybox\nRUN echo remote text\n",
        "/context.tar": tar({"Dockerfile": "FROM busybox\nCOPY a /\nRUN cat /a\n", "a": "remote tar"}),
        "/slow": b"at last",
        "/file.tar": tar({"inside": "x"}),
    }

    asked, may_answer = threading.Event(), threading.Event()

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.asked.set()
            self.may_answer.wait(30)
        found = self.content.get(self.path)
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(found or b"")))
        self.send_header("Last-Modified", "Mon, 03 Feb 2020 04:05:06 GMT")
        self.end_headers()
        self.wfile.write(found or b"")

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    """The address of an HTTP server on this machine."""
    listening = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_address[1]}"
    listening.shutdown()
    listening.server_close()


def test_remote_contexts(moorage: Instance, server: str) -> None:
    assert "remote text" in cli(moorage, f"{server}/Dockerfile").stdout.decode()
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(f"POST /v1.51/build?remote={server}/context.tar", connection="close"))
        assert b"remote tar" in wire.answer().body
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(f"POST /v1.51/build?remote={server}/nosuch", connection="close"))
        answer = wire.answer()
    assert answer.status == 500
    assert "404" in answer.json["message"]


def test_add_fetches_and_does_not_unpack(client: docker.DockerClient, server: str) -> None:
    told = build(client, f"FROM busybox\nADD {server}/file.tar /d/\nRUN stat -c '%n %a %Y' /d/*\n")
    assert "/d/file.tar 600 1580702706\n" in told
    with pytest.raises(BuildError, match=r"failed to GET .* with status 404"):
        build(client, f"FROM busybox\nADD {server}/nosuch /d/\n")


def test_a_prune_leaves_what_a_build_goes_on_from(client: docker.DockerClient, server: str) -> None:
    told: list[str] = []
    dockerfile = f"FROM busybox\nENV A=1\nADD {server}/slow /slow\nRUN cat /slow\n"
    building = threading.Thread(target=lambda: told.append(build(client, dockerfile, nocache=True)))
    building.start()
    assert _Files.asked.wait(30)
    client.images.prune()
    _Files.may_answer.set()
    building.join()
    assert "at last" in told[0]


def test_a_git_repository(moorage: Instance, tmp_path: Path) -> None:
    repository = tmp_path / "all" / "repo.git"
    (repository / "sub").mkdir(parents=True)
    (repository / "sub" / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /\nRUN echo from git\n")
    git = ["git", "-C", str(repository), "-c", "user.name=m", "-c", "user.email=m@x.test"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *arguments], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={tmp_path}/all"]
    serving = subprocess.Popen(["git", "daemon", *options], start_new_session=True)
    try:
        moorage.until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)), 60, "git does not serve")
        answers = []
        for part in ("#main:sub", "#main:../..", "#nosuch"):
            with Wire(moorage.socket, 60) as wire:
                remote = quote(f"git://127.0.0.1:{port}/repo.git{part}", safe="")
                wire.send(request(f"POST /v1.51/build?remote={remote}", connection="close"))
                answers.append(wire.answer())
        assert b"from git" in answers[0].body
        assert "not within git root" in answers[1].json["message"]
        assert "error fetching" in answers[2].json["message"]
    finally:
        os.killpg(serving.pid, signal.SIGTERM)
        serving.wait(60)


def test_a_client_that_leaves_ends_the_build(moorage: Instance, client: docker.DockerClient) -> None:
    context = tar({"Dockerfile": "FROM busybox\nRUN echo waits; sleep 1000\n"})
    with Wire(moorage.socket, 60) as wire:
        wire.send(request("POST /v1.51/build", context, content_type="application/x-tar"))
        moorage.until(client.api.containers, 60, "no step was run")
    moorage.until(lambda: not client.api.containers(all=True), 60, "the container of the step stayed")


def test_a_killed_build_leaves_nothing(moorage: Instance, client: docker.DockerClient) -> None:
    before = {image.id for image in client.images.list(all=True)}
    context = tar({**FILES, "Dockerfile": "FROM busybox\nCOPY dir /c\nRUN touch /x; sleep 1000\n"})
    with Wire(moorage.socket, 60) as wire:
        wire.send(request("POST /v1.51/build", context, content_type="application/x-tar"))
        moorage.until(client.api.containers, 60, "no step was run")
        moorage.kill_service()
    moorage.until(lambda: not client.api.containers(all=True), 60, "the container of the step stayed")
    made = {image.id for image in client.images.list(all=True)} - before
    assert len(made) == 1  # the finished step: a later build finds it in the cache
    assert "Using cache" in build(client, "FROM busybox\nCOPY dir /c\nRUN touch /x\n", FILES)


def test_prune_cancel_and_usage(moorage: Instance, client: docker.DockerClient) -> None:
    context = tar({"Dockerfile": "FROM busybox\nRUN touch /pruned\n"})
    client.api._post(client.api._url("/build?version=2"), data=context).close()
    kept = {record["ID"]: record for record in client.api.df()["BuildCache"]}
    assert any("touch /pruned" in record["Description"] for record in kept.values())
    gone = client.api._result(client.api._post(client.api._url("/build/prune?all=1")), json=True)
    assert set(gone["CachesDeleted"]) == kept.keys()
    assert client.api.df()["BuildCache"] == []
    assert client.api.prune_builds() == {"CachesDeleted": None, "SpaceReclaimed": 0}
    with Wire(moorage.socket, 60) as wire:
        wire.send(request("POST /v1.51/build/cancel?id=x", connection="close"))
        assert wire.answer().status == 200


def test_squashed_is_one_layer_over_the_base(moorage: Instance, client: docker.DockerClient) -> None:
    moorage.configure({"experimental": True})
    dockerfile = "FROM busybox\nRUN echo large >/gone\nCOPY dir /d\nRUN rm /gone /d/x; echo kept >/kept\nENV A=1\n"
    context = io.BytesIO(tar({**FILES, "Dockerfile": dockerfile}))
    messages = list(client.api.build(fileobj=context, custom_context=True, squash=True, tag="squashed", decode=True))
    made = client.images.get("squashed")
    whole, squashed = (message["aux"]["ID"] for message in messages if "aux" in message)
    assert squashed == made.id != whole
    base = client.api.inspect_image("busybox")["RootFS"]["Layers"]
    assert made.attrs["RootFS"]["Layers"][:-1] == base
    assert made.attrs["Comment"] == f"merge {whole} to {client.images.get('busybox').id}"
    shown = moorage.docker("run", "--rm", "squashed", "sh", "-c", "ls /d /gone; cat /kept; echo $A", check=False)
    assert shown.stdout == "/d:\nlink\nsub\ny\nkept\n1\n"
    moorage.docker("rmi", "squashed")
    nothing = "".join(
        m.get("stream", "")
        for m in client.api.build(
            fileobj=io.BytesIO(tar({"Dockerfile": "FROM busybox\n"})), custom_context=True, squash=True, decode=True
        )
    )
    assert f"Successfully built {client.images.get('busybox').short_id[7:]}" in nothing
    with pytest.raises(APIError, match="squash is not supported with BuildKit"):
        client.api._raise_for_status(client.api._post(client.api._url("/build?version=2&squash=1"), data=b""))


def test_names_are_told_in_the_stream(client: docker.DockerClient) -> None:
    context = io.BytesIO(tar({"Dockerfile": "FROM busybox AS one\nENV A=1\nFROM one\nENV B=2\n"}))
    messages = list(client.api.build(fileobj=context, custom_context=True, rm=True, decode=True))
    ids = [message["aux"]["ID"] for message in messages if "aux" in message]
    assert len(ids) == 2
    assert json.dumps(messages[-1]) == json.dumps({"stream": f"Successfully built {ids[-1][7:19]}\n"})


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")
def test_from_pulls_with_the_clients_credentials(moorage: Instance, client: docker.DockerClient) -> None:
    with Registry(basic=True) as registry:
        name = f"{registry.address}/moles/base:1"
        login = {"username": USER, "password": PASSWORD}
        moorage.docker("tag", "busybox", name)
        client.api.push(name, auth_config=login)
        client.api.remove_image(name)
        known = base64.urlsafe_b64encode(json.dumps({registry.address: login}).encode()).decode()
        answers = []
        for header in ({}, {"X-Registry-Config": known}):
            with Wire(moorage.socket, 60) as wire:
                context = tar({"Dockerfile": f"FROM {name}\nRUN echo from there\n"})
                wire.send(request("POST /v1.51/build?pull=1", context, content_type="application/x-tar", **header))
                answers.append(wire.answer().body)
        assert b"from there" not in answers[0]
        assert b'"error"' in answers[0]
        assert b"from there" in answers[1]
        assert f"Status: Image is up to date for {name}".encode() in answers[1] or b"Pulling from" in answers[1]
        moorage.docker("rmi", name)

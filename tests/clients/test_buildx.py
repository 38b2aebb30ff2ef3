"""docker buildx, bake, `docker build` and compose by BuildKit's protocol, against an instance.

The buildx of the machine, or the one that MOORAGE_TEST_BUILDX names.
"""

import asyncio
import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from tests.support.buildkit import history, image_configuration
from tests.support.buildx import SECONDS, Buildx
from tests.support.instance import Instance
from tests.support.registry import PASSWORD, USER, Registry

DOCKERFILE = """\
FROM busybox AS build
ARG GREETING=hello
COPY hello.txt /src/
COPY sub /src/sub
RUN echo $GREETING >/greeting
FROM scratch AS final
COPY --from=build /src /out
FROM build AS secret
RUN --mount=type=secret,id=tok cat /run/secrets/tok | tr a-z A-Z
FROM build AS needs
RUN --mount=type=secret,id=nope,required=true true
FROM build AS agent
RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" && echo the agent is there
FROM build AS bad
RUN echo before; exit 3
FROM build AS slow
RUN echo begun; sleep 3600
FROM scratch AS named
COPY --from=extra n /n
FROM build
RUN cat /greeting
"""


@pytest.fixture(scope="module")
def buildx(moorage: Instance, tmp_path_factory: pytest.TempPathFactory) -> Buildx:
    """buildx, and contexts for it."""
    made = Buildx(moorage, tmp_path_factory.mktemp("buildx"))
    folder = made.folder
    context = folder / "ctx"
    (context / "sub/deep").mkdir(parents=True)
    (context / "hello.txt").write_text("hi\n")
    (context / "sub/deep/f").write_text("s\n")
    (context / "sub/deep/f").chmod(0o4755)
    (context / "sub/link").symlink_to("deep/f")
    os.link(context / "hello.txt", context / "sub/hard")
    (context / "sub/ümläut é").write_text("u\n")
    (context / "sub/empty").touch()
    (context / "sub/x.log").write_text("ignored\n")
    (context / ".dockerignore").write_text("*/*.log\n")
    (context / "Dockerfile").write_text(DOCKERFILE)
    (folder / "other").mkdir()
    (folder / "other/n").write_text("named\n")
    (folder / "tok").write_text("s3cret\n")
    return made


def test_what_builds_here(buildx: Buildx) -> None:
    listed = buildx("buildx", "ls")
    assert "default" in listed
    assert "running" in listed
    said = buildx("buildx", "inspect")
    assert "Driver:" in said
    assert "linux/" in said


def test_an_image_is_built_named_and_runs(buildx: Buildx, moorage: Instance) -> None:
    said = buildx.build("-t", "x", "-t", "y:1", "--label", "a=b", "--build-arg", "GREETING=moin", "ctx")
    assert "[build 4/4] RUN echo " in said
    assert any(line.endswith(" moin") for line in said.splitlines())
    assert "naming to docker.io/library/y:1" in said
    assert moorage.docker("run", "--rm", "x", "ls", "-A", "/src/sub").stdout.split("\n")[:2] == ["deep", "empty"]
    assert moorage.docker("run", "--rm", "y:1", "stat", "-c", "%a %U", "/src/sub/deep/f").stdout == "4755 root\n"
    assert moorage.docker("inspect", "-f", '{{index .Config.Labels "a"}}', "x").stdout == "b\n"
    again = buildx.build("-t", "x", "--label", "a=b", "--build-arg", "GREETING=moin", "ctx")
    assert again.count("CACHED") >= 4


def test_docker_build_is_buildkit(buildx: Buildx, moorage: Instance) -> None:
    said = buildx("build", "--progress=plain", "-t", "z", "--target", "final", "ctx")
    assert "naming to docker.io/library/z" in said
    assert moorage.docker("image", "inspect", "-f", "{{.Os}}", "z").stdout == "linux\n"


def test_ids_and_metadata_files(buildx: Buildx, moorage: Instance) -> None:
    buildx.build("-t", "ids", "--iidfile", "iid", "--metadata-file", "meta.json", "ctx")
    identity = moorage.docker("image", "inspect", "-f", "{{.Id}}", "ids").stdout.strip()
    assert (buildx.folder / "iid").read_text() == identity
    told = json.loads((buildx.folder / "meta.json").read_text())
    assert told["containerimage.config.digest"] == identity
    assert told["image.name"].endswith("ids") or "library/ids" in told["image.name"]
    assert buildx("buildx", "build", "-q", "-t", "ids", "ctx").strip() == identity


def test_progress_in_json(buildx: Buildx) -> None:
    said = buildx("buildx", "build", "--progress=rawjson", "--no-cache", "--target", "build", "ctx")
    events, at = [], said.index("{")
    while at >= 0:
        event, end = json.JSONDecoder().raw_decode(said, at)
        events.append(event)
        at = said.find("{", end)
    vertices: dict[str, dict[str, Any]] = {}
    for event in events:
        for vertex in event.get("vertexes") or ():
            assert vertex["digest"].startswith("sha256:")
            vertices.setdefault(vertex["digest"], {}).update(vertex)
    run = next(vertex for vertex in vertices.values() if "RUN echo" in vertex["name"])
    assert run["started"] <= run["completed"]
    assert not run.get("cached")
    statuses = [status for event in events for status in event.get("statuses") or ()]
    assert any(status["id"].startswith("transferring context") for status in statuses)


def test_failures_are_told_in_buildkits_words(buildx: Buildx) -> None:
    said = buildx.build("--target", "bad", "ctx", code=1)
    assert "before" in said
    assert 'process "/bin/sh -c echo before; exit 3" did not complete successfully: exit code: 3' in said
    assert 'target stage "zz" could not be found' in buildx.build("--target", "zz", "ctx", code=1)
    assert "nope.txt" in buildx.build("-f", "-", "ctx", code=1, stdin=b"FROM scratch\nCOPY nope.txt /\n")
    assert "failed to read dockerfile" in buildx.build("-f", "missing", "ctx", code=1)


def test_what_is_not_served_is_named(buildx: Buildx) -> None:
    said = buildx.build("--build-arg", "BUILDKIT_SYNTAX=example.com/other/frontend:1", "ctx", code=1)
    assert "example.com/other/frontend:1" in said


def test_secrets_reach_the_step_and_nothing_else(buildx: Buildx, moorage: Instance) -> None:
    said = buildx.build("-t", "sec", "--secret", "id=tok,src=tok", "--target", "secret", "ctx")
    assert "S3CRET" in said
    said = buildx.build("--no-cache", "--secret", "id=tok,env=TOK", "--target", "secret", "ctx", TOK="abc")
    assert "ABC" in said
    assert "nope" in buildx.build("--target", "needs", "ctx", code=1)
    told = moorage.docker("image", "inspect", "sec").stdout + moorage.docker("history", "--no-trunc", "sec").stdout
    assert "s3cret" not in told
    assert "s3cret" not in moorage.log()


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")
def test_the_clients_login_is_asked_for_where_an_image_needs_it(buildx: Buildx, moorage: Instance) -> None:
    with Registry(basic=True) as registry:
        name = f"{registry.address}/moles/base:1"
        moorage.docker("tag", "busybox", name)
        moorage.client().api.push(name, auth_config={"username": USER, "password": PASSWORD})
        moorage.docker("rmi", name)
        dockerfile = f"FROM {name}\nRUN echo from there\n".encode()
        assert name in buildx.build("--pull", "-", stdin=dockerfile, code=1)
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config = buildx.folder / "config/config.json"
        config.write_text(json.dumps({"auths": {registry.address: {"auth": login}}}))
        try:
            said = buildx.build("--pull", "-", stdin=dockerfile)
        finally:
            config.unlink()
        assert any(line.endswith("from there") and "RUN" not in line for line in said.splitlines())
        assert PASSWORD not in moorage.log()


def test_an_agent_is_forwarded(buildx: Buildx) -> None:
    path = str(buildx.folder / "agent")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    try:
        assert "the agent is there" in buildx.build("--target", "agent", "--ssh", f"default={path}", "ctx")
    finally:
        listener.close()
    said = buildx.build("--target", "agent", "--no-cache-filter", "agent", "ctx", code=1)
    assert "default" in said


def test_results_are_sent_to_the_client(buildx: Buildx) -> None:
    buildx.build("-o", "type=local,dest=out", "--target", "final", "ctx")
    out, context = buildx.folder / "out/out", buildx.folder / "ctx"
    assert (out / "hello.txt").read_text() == "hi\n"
    assert sorted(os.listdir(out / "sub")) == sorted(set(os.listdir(context / "sub")) - {"x.log"})
    assert (out / "sub/deep/f").stat().st_mode & 0o7777 == 0o4755
    assert os.readlink(out / "sub/link") == "deep/f"
    buildx.build("-o", "type=tar,dest=out.tar", "--target", "final", "ctx")
    with tarfile.open(buildx.folder / "out.tar") as archive:
        assert "out/hello.txt" in {member.name.removeprefix("./") for member in archive}


@pytest.fixture
def remote(buildx: Buildx, moorage: Instance) -> Iterator[str]:
    """A builder that takes the instance's socket for BuildKit's own, and asks for more than the docker driver."""
    buildx("buildx", "create", "--name", "remote", "--driver", "remote", f"unix://{moorage.socket}")
    yield "--builder=remote"
    buildx("buildx", "rm", "remote")


def test_a_remote_builder_is_served_on_the_same_socket(buildx: Buildx, remote: str, moorage: Instance) -> None:
    assert "running" in buildx("buildx", "ls")
    buildx.build(remote, "-t", "loaded", "--load", "--target", "final", "--secret", "id=tok,src=tok", "ctx")
    assert moorage.docker("image", "inspect", "-f", "{{.Os}}", "loaded").stdout == "linux\n"
    buildx.build(remote, "-o", "type=local,dest=rout", "--target", "final", "ctx")
    assert (buildx.folder / "rout/out/hello.txt").read_text() == "hi\n"


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_archives_are_sent_to_the_client(buildx: Buildx, remote: str, moorage: Instance, kind: str) -> None:
    meta = buildx.folder / "archive.json"
    options = ["-o", f"type={kind},dest={kind}.tar,annotation.a=b", "-t", "arch:1", "--metadata-file", str(meta)]
    buildx.build(remote, *options, "--target", "final", "ctx")
    told, archive = json.loads(meta.read_text()), buildx.folder / f"{kind}.tar"
    with tarfile.open(archive) as opened:

        def member(name: str) -> Any:
            content = opened.extractfile(name)
            assert content is not None
            return json.loads(content.read())

        (entry,) = member("index.json")["manifests"]
        manifest = member("blobs/sha256/" + entry["digest"][7:])
    assert told["containerimage.digest"] == entry["digest"]
    assert told["containerimage.config.digest"] == manifest["config"]["digest"]
    assert manifest["annotations"] == {"a": "b"}
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/arch:1"
    moorage.docker("load", "-i", str(archive))
    identity = moorage.docker("image", "inspect", "-f", "{{.Id}}", "arch:1").stdout.strip()
    assert identity == manifest["config"]["digest"]
    skopeo = shutil.which("skopeo")
    if skopeo:
        place = f"oci-archive:{archive}" if kind == "oci" else f"docker-archive:{archive}:arch:1"
        subprocess.run(
            [skopeo, "copy", "--insecure-policy", place, f"dir:{buildx.folder}/{kind}-copied"],
            check=True,
            capture_output=True,
            timeout=SECONDS,
        )
        copied = json.loads((buildx.folder / f"{kind}-copied/manifest.json").read_text())
        assert copied["config"]["digest"] == identity


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")
def test_a_remote_builder_pushes_by_the_clients_login(buildx: Buildx, remote: str, moorage: Instance) -> None:
    with Registry(basic=True) as registry:
        name = f"{registry.address}/moles/pushed:1"
        push = [remote, "--push", "-t", name, "--target", "final", "--metadata-file", "pushed.json", "ctx"]
        buildx.build(*push, code=1)
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config = buildx.folder / "config/config.json"
        config.write_text(json.dumps({"auths": {registry.address: {"auth": login}}}))
        try:
            buildx.build(*push)
        finally:
            config.unlink()
        told = json.loads((buildx.folder / "pushed.json").read_text())
        moorage.docker("rmi", "-f", name)
        digest = f"{registry.address}/moles/pushed@{told['containerimage.digest']}"
        moorage.client().api.pull(digest, auth_config={"username": USER, "password": PASSWORD})
        identity = moorage.docker("image", "inspect", "-f", "{{.Id}}", digest).stdout.strip()
        assert identity == told["containerimage.config.digest"]
        assert PASSWORD not in moorage.log()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "type=oci,dest=x.tar,compression=zstd"], "compression zstd is not supported"),
        (["-o", "type=oci,dest=x,tar=false"], "tar=false is not supported"),
        (["-o", "type=image,name=x:y:z"], "invalid reference format"),
        (["-o", "type=oci,dest=x.tar,annotation-index.a=b"], "index annotations not supported"),
        (["-o", "type=image,push=true"], "tag is needed when pushing to registry"),
        (["-o", "type=image,name=x,push=true,push-by-digest=true"], "push-by-digest"),
        (["--cache-to", "type=local,dest=cache"], "cache export of type local is not supported"),
        (["--cache-to", "type=registry,ref=localhost:5/cache"], "cache export of type registry is not supported"),
        (["--platform", "linux/amd64,linux/arm64"], "multiple platforms"),
        (["--provenance=true"], "ttestations are not supported"),
        (["--build-arg", "SOURCE_DATE_EPOCH=x"], "invalid SOURCE_DATE_EPOCH"),
    ],
)
def test_outputs_that_are_not_served_are_refused_before_anything_is_built(
    buildx: Buildx, remote: str, arguments: list[str], said: str
) -> None:
    text = buildx.build(remote, *arguments, "-", code=1, stdin=b"FROM busybox\nRUN echo $((6*7))\n")
    assert said in text
    assert " 42\n" not in text


def test_what_is_built_by_default_needs_no_attestation(buildx: Buildx, remote: str) -> None:
    for builder in (remote, "--builder=default"):
        buildx.build(builder, "--target", "final", "ctx", BUILDX_NO_DEFAULT_ATTESTATIONS="0")


def test_contexts_of_every_kind(buildx: Buildx) -> None:
    buildx.build("--build-context", "extra=other", "--target", "named", "-o", "type=local,dest=nout", "ctx")
    assert (buildx.folder / "nout/n").read_text() == "named\n"
    packed = subprocess.run(
        ["tar", "-C", str(buildx.folder / "ctx"), "-c", "."], capture_output=True, timeout=SECONDS, check=True
    ).stdout
    buildx.build("-t", "tarred", "-", stdin=packed)
    buildx.build("-t", "stdin", "-", stdin=b"FROM scratch\nENV a=b\n")
    buildx.build("-t", "both", "-f", "-", "ctx", stdin=b"FROM scratch\nCOPY hello.txt /\n")


class Counted:
    """A socket in front of an instance's that counts what clients send."""

    def __init__(self, moorage: Instance, path: str) -> None:
        self.moorage, self.path, self.sent = moorage, path, 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Counted":
        self._thread.start()
        assert self._ready.wait(SECONDS)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(asyncio.start_unix_server(self._carry, self.path))
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(self.moorage.socket)

        async def up() -> None:
            while data := await reader.read(1 << 20):
                self.sent += len(data)
                ours.write(data)
                await ours.drain()
            ours.write_eof()

        going = asyncio.ensure_future(up())
        try:
            while data := await theirs.read(1 << 20):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            going.cancel()
            writer.close()
            ours.close()


def test_only_what_changed_is_sent_again(buildx: Buildx, moorage: Instance) -> None:
    context = buildx.folder / "large"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    for number in range(8):
        (context / f"f{number}").write_bytes(os.urandom(1 << 20))
    with Counted(moorage, f"{moorage.folder}/counted") as counted:

        def sent() -> int:
            before = counted.sent
            buildx.build("-o", "type=cacheonly", "large", DOCKER_HOST=f"unix://{counted.path}")
            return counted.sent - before

        assert sent() > 8 << 20
        assert sent() < 1 << 18
        (context / "f3").write_bytes(os.urandom(1 << 20))
        assert 1 << 20 < sent() < 2 << 20


def test_ctrl_c_ends_the_build(buildx: Buildx, moorage: Instance) -> None:
    client = buildx.popen("buildx", "build", "--progress=plain", "--target", "slow", "ctx")
    assert client.stdout is not None
    try:
        for line in client.stdout:
            if line.endswith("begun\n") and "RUN" not in line:
                break
        else:
            raise AssertionError("the step did not begin")
        client.send_signal(signal.SIGINT)
        rest = client.communicate(timeout=SECONDS)[0]
        assert client.returncode != 0
        assert "CANCELED" in rest
    finally:
        client.kill()
        client.wait()
    moorage.until(lambda: not moorage.leftovers(), SECONDS, "the step goes on")


def test_a_client_that_is_killed_leaves_nothing(buildx: Buildx, moorage: Instance) -> None:
    client = buildx.popen("buildx", "build", "--progress=plain", "--target", "slow", "ctx")
    assert client.stdout is not None
    for line in client.stdout:
        if line.endswith("begun\n") and "RUN" not in line:
            break
    plugin = subprocess.run(
        ["pgrep", "-P", str(client.pid)], capture_output=True, text=True, timeout=SECONDS, check=False
    ).stdout.split()
    for pid in (client.pid, *map(int, plugin)):
        os.kill(pid, signal.SIGKILL)
    client.wait()
    moorage.until(lambda: not moorage.leftovers(), SECONDS, "the step goes on")
    moorage.wait_idle(SECONDS)


def test_a_service_that_is_killed_leaves_nothing_but_its_cache(buildx: Buildx, moorage: Instance) -> None:
    client = buildx.popen("buildx", "build", "--progress=plain", "--target", "slow", "ctx")
    assert client.stdout is not None
    for line in client.stdout:
        if line.endswith("begun\n") and "RUN" not in line:
            break
    moorage.kill_service()
    client.communicate(timeout=SECONDS)
    assert client.returncode != 0
    buildx("buildx", "ls")  # the next process finds what was left
    moorage.until(lambda: not moorage.leftovers(), SECONDS, "the step goes on")
    assert "CACHED" in buildx.build("-t", "x", "ctx")


def test_builds_side_by_side(buildx: Buildx) -> None:
    running = [
        buildx.popen(
            "buildx", "build", "--progress=plain", "-t", f"p{number}", "--build-arg", f"GREETING={number}", "ctx"
        )
        for number in range(4)
    ]
    for number, client in enumerate(running):
        said = client.communicate(timeout=SECONDS)[0]
        assert client.returncode == 0, said
        assert f"naming to docker.io/library/p{number}" in said


def test_disk_usage_and_prune(buildx: Buildx) -> None:
    buildx.build("-t", "du", "ctx")
    assert "Total:" in buildx("buildx", "du")
    assert "local source" in buildx("buildx", "du", "--verbose")
    assert "Total:" in buildx("buildx", "prune", "-f", "--filter", "type=source.local")
    assert "local source" not in buildx("buildx", "du", "--verbose")
    buildx.build("-t", "du", "ctx")


def test_directories_that_nobody_has_built_for_long_are_forgotten(buildx: Buildx, moorage: Instance) -> None:
    (buildx.folder / "rare").mkdir()
    (buildx.folder / "rare" / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /\n")
    known = set(Path(moorage.root, "mirrors").glob("*/*/tree"))
    buildx.build("-t", "rare", "rare")
    rare = set(Path(moorage.root, "mirrors").glob("*/*/tree")) - known
    assert rare
    for tree in rare:
        os.utime(tree.parent / "about", (10**9, 10**9))
    buildx.build("-t", "du", "ctx")
    moorage.until(lambda: not any(tree.exists() for tree in rare), 30, "what nobody uses is kept")
    assert known <= set(Path(moorage.root, "mirrors").glob("*/*/tree"))


BAKE = """\
group "default" { targets = ["a", "b"] }
target "a" {
  context = "ctx"
  target = "final"
  tags = ["bake-a"]
}
target "b" {
  context = "ctx"
  dockerfile-inline = "FROM linked\\nCOPY hello.txt /added\\n"
  contexts = { linked = "target:a" }
  output = ["type=local,dest=bout"]
}
"""


def test_bake_and_targets_that_are_linked(buildx: Buildx, moorage: Instance) -> None:
    (buildx.folder / "bake.hcl").write_text(BAKE)
    buildx("buildx", "bake", "--progress=plain", "-f", "bake.hcl", "--metadata-file", "bake.json")
    assert (buildx.folder / "bout/added").read_text() == (buildx.folder / "bout/out/hello.txt").read_text() == "hi\n"
    identity = moorage.docker("image", "inspect", "-f", "{{.Id}}", "bake-a").stdout.strip()
    assert json.loads((buildx.folder / "bake.json").read_text())["a"]["containerimage.config.digest"] == identity


def test_compose_builds(buildx: Buildx, moorage: Instance) -> None:
    if not (buildx.folder / "config/cli-plugins/docker-compose").exists():
        pytest.skip("no docker compose here")
    (buildx.folder / "compose.yaml").write_text(
        "services:\n"
        "  web: {build: {context: ctx, target: secret, secrets: [tok]}, image: comp-web}\n"
        "  two: {build: {context: ctx, target: final}, image: comp-two}\n"
        "secrets: {tok: {file: ./tok}}\n"
    )
    said = buildx("compose", "--progress", "plain", "build", "--no-cache", DOCKER_BUILDKIT="1")
    assert "S3CRET" in said
    for name in ("comp-web", "comp-two"):
        moorage.docker("image", "inspect", name)


MATRIX = """\
variable "TAG" {
  default = "v1"
}
function "loud" {
  params = [word]
  result = upper(word)
}
group "all" {
  targets = ["each", "own"]
}
target "common" {
  context = "ctx"
  target = "build"
  labels = { from = "common" }
  args = { GREETING = "common" }
}
target "each" {
  inherits = ["common"]
  name = "each-${word}"
  matrix = { word = ["one", "two"] }
  args = { GREETING = loud(word) }
  tags = ["matrix-${word}:${TAG}"]
}
target "own" {
  inherits = ["common"]
  tags = ["matrix-own:${TAG}"]
}
"""


def test_bake_of_a_matrix(buildx: Buildx, moorage: Instance) -> None:
    """Groups, inheritance, functions and what the command line sets instead come out in the images."""
    (buildx.folder / "matrix.hcl").write_text(MATRIX)
    chosen = ("-f", "matrix.hcl", "all", "--set", "own.labels.from=set", "--set", "own.args.GREETING=set")
    buildx("buildx", "bake", "--progress=plain", *chosen, TAG="v2")
    for name, greeting, label in (("one", "ONE", "common"), ("two", "TWO", "common"), ("own", "set", "set")):
        image = f"matrix-{name}:v2"
        assert moorage.docker("run", "--rm", image, "cat", "/greeting").stdout == f"{greeting}\n"
        assert moorage.docker("image", "inspect", "-f", "{{.Config.Labels.from}}", image).stdout == f"{label}\n"


EVERYTHING = """\
services:
  app:
    image: comp-app
    build:
      context: ctx
      dockerfile_inline: |
        FROM busybox AS app
        ARG WORD
        COPY hello.txt /
        COPY --from=extra n /n
        RUN echo $$WORD >/word; ls /sys/class/net >/nets; grep -c 192.0.2.1 /etc/hosts >/hosts; ulimit -n >/limit
        RUN --mount=type=ssh test -S "$$SSH_AUTH_SOCK"
        FROM app AS unwanted
        RUN false
      target: app
      args: {WORD: from compose}
      additional_contexts: {extra: ./other}
      labels: {made.by: compose}
      network: none
      extra_hosts: {far: 192.0.2.1}
      ulimits: {nofile: 77}
      shm_size: 1m
      platforms: [PLATFORM]
      cache_from: [busybox]
      no_cache: true
      tags: ["comp-app:second"]
      ssh: [default]
    command: sh -c 'cat /hello.txt /n /word /hosts /limit /nets'
"""


def test_everything_that_compose_says_of_a_build(buildx: Buildx, moorage: Instance) -> None:
    if not (buildx.folder / "config/cli-plugins/docker-compose").exists():
        pytest.skip("no docker compose here")
    platform = moorage.docker("version", "-f", "{{.Server.Os}}/{{.Server.Arch}}").stdout.strip()
    (buildx.folder / "everything.yaml").write_text(EVERYTHING.replace("PLATFORM", platform))
    compose = ("compose", "-f", "everything.yaml", "--progress", "plain")
    with socket.socket(socket.AF_UNIX) as agent:
        place = f"{moorage.folder}/agent-of-compose"
        agent.bind(place)
        agent.listen()
        buildx(*compose, "up", "--build", "--no-start", DOCKER_BUILDKIT="1", SSH_AUTH_SOCK=place)
    said = buildx(*compose, "run", "--rm", "-T", "app").splitlines()
    assert said[-6:] == ["hi", "named", "from compose", "1", "77", "lo"], said
    labels = '{{index .Config.Labels "made.by"}}'
    assert moorage.docker("image", "inspect", "-f", labels, "comp-app:second").stdout == "compose\n"
    buildx(*compose, "down", "--rmi", "all")


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")
def test_an_image_is_looked_at_without_building_upon_it(moorage: Instance) -> None:
    told = json.loads(moorage.docker("image", "inspect", "busybox").stdout)[0]
    for source in (False, True):
        digest, config = image_configuration(moorage.socket, "docker.io/library/busybox:latest", source=source)
        assert digest == ""
        assert "sha256:" + hashlib.sha256(config).hexdigest() == told["Id"]
    with Registry() as registry:
        name = f"{registry.address}/moles/looked:1"
        moorage.docker("tag", "busybox", name)
        moorage.docker("push", name)
        pushed = json.loads(moorage.docker("image", "inspect", name).stdout)[0]["RepoDigests"]
        moorage.docker("rmi", name)
        digest, config = image_configuration(moorage.socket, name, "pull")
        assert f"{registry.address}/moles/looked@{digest}" in pushed
        assert "sha256:" + hashlib.sha256(config).hexdigest() == told["Id"]
        assert moorage.docker("images", "-q", name).stdout == ""  # nothing was pulled
        with pytest.raises(GRPCError, match=r"failed to resolve source metadata for .*nosuch"):
            image_configuration(moorage.socket, f"{registry.address}/moles/nosuch:1")
    with pytest.raises(GRPCError, match=r"docker\.io/library/busybox: object required"):
        image_configuration(moorage.socket, "busybox")
    with pytest.raises(GRPCError, match='could not parse reference "a:b:c": invalid reference format'):
        image_configuration(moorage.socket, "a:b:c")


@pytest.fixture
def newer(buildx: Buildx) -> Buildx:
    """A buildx that knows the history of builds."""
    if "history" not in buildx("buildx", "--help"):
        pytest.skip(f"{buildx('buildx', 'version').strip()} knows no history of builds")
    return buildx


def test_builds_are_remembered(buildx: Buildx, moorage: Instance) -> None:
    secret = ["--target", "secret", "--secret", "id=tok,src=tok"]
    buildx.build("-t", "remembered", *secret, "--label", "a=b", "ctx")
    buildx.build("--target", "bad", "ctx", code=1)
    identity = moorage.docker("image", "inspect", "-f", "{{.Id}}", "remembered").stdout.strip()
    moorage.wait_idle(SECONDS)  # another process answers
    told = history(moorage.socket)
    good, bad = told.records[1], told.records[0]
    assert good.ExporterResponse["containerimage.config.digest"] == identity
    assert good.FrontendAttrs["label:a"] == "b"
    assert json.loads(told.blobs[good.Result.Results[0].digest])["rootfs"]["type"] == "layers"
    assert good.numCompletedSteps == good.numTotalSteps > 3
    assert not good.HasField("error")
    made_of = json.loads(told.blobs[good.Result.Attestations[0].digest])
    layers = json.loads(moorage.docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", "busybox").stdout)
    assert made_of["materials"] == [
        {
            "uri": "pkg:docker/busybox@latest?platform=linux%2Famd64",
            "digest": {"sha256": layers[0].partition(":")[2]},  # as dockerd has it: an image of this machine's
        }
    ]
    parameters = made_of["invocation"]["parameters"]
    assert parameters["secrets"] == [{"id": "tok", "optional": True}]
    assert parameters["locals"] == [{"name": "context"}, {"name": "dockerfile"}]
    assert "s3cret" not in str(told.blobs)
    assert bad.error.message.endswith("did not complete successfully: exit code: 3")
    assert b"before\n" in [log.msg for each in told.stories[bad.Ref] for log in each.logs]
    assert b"FROM busybox AS build" in base64.b64decode(told.source_of(bad)["info"]["data"])


def test_history_is_listed_shown_and_removed(newer: Buildx) -> None:
    newer("buildx", "history", "rm", "--all")
    newer.build("-t", "h", "--build-arg", "GREETING=history", "ctx")
    newer.build("--target", "bad", "ctx", code=1)
    lines = newer("buildx", "history", "ls").splitlines()
    assert [line.split()[1:] for line in lines[:1]] == [["ID", "NAME", "STATUS", "CREATED", "AT", "DURATION"]]
    assert [" Error " in lines[1], " Completed " in lines[2], len(lines)] == [True, True, 3]
    assert newer("buildx", "history", "ls", "--filter", "status=error").count(" Error ") == 1
    good, bad = lines[2].split()[0], lines[1].split()[0]
    said = newer("buildx", "history", "logs", good)
    assert any(line.endswith(" history") for line in said.splitlines())
    assert said.index("RUN cat /greeting") < said.index("naming to docker.io/library/h")
    told = json.loads(newer("buildx", "history", "inspect", "--format", "json", good))
    assert told["Status"] == "completed"
    assert {"Name": "GREETING", "Value": "history"} in told["BuildArgs"]
    assert told["Materials"][0]["URI"].startswith("pkg:docker/busybox@latest")
    said = newer("buildx", "history", "inspect", bad)
    assert ">>> RUN echo before; exit 3" in said
    assert "> before" in said
    newer("buildx", "history", "export", "-o", "exported", good)
    with tarfile.open(newer.folder / "exported") as archive:
        assert "index.json" in archive.getnames()
    newer("buildx", "history", "rm", good)
    assert "no record found" in newer("buildx", "history", "logs", good, code=1)
    assert "not found" in newer("buildx", "history", "rm", "nosuch", code=1)
    assert len(newer("buildx", "history", "ls").splitlines()) == 2


def test_a_dockerfile_is_asked_instead_of_built(newer: Buildx) -> None:
    assert "no warnings found" in newer("buildx", "build", "--check", "ctx")
    said = newer("buildx", "build", "--check", "-f", "-", "ctx", code=1, stdin=b"FROM busybox\nMAINTAINER me\n")
    assert "WARNING: MaintainerDeprecated" in said
    assert "dockerfile parse error" in newer("buildx", "build", "--check", "-f", "-", "ctx", code=1, stdin=b"FRO x\n")
    said = newer("buildx", "build", "--call=outline", "--target", "needs", "ctx")
    assert "GREETING    hello" in said
    assert "nope     true" in said
    assert "final" in newer("buildx", "build", "--call=targets", "ctx")
    told = newer("buildx", "build", "--call=targets,format=json", "ctx")
    assert json.loads(told[told.index("\n{") :])["targets"][0]["base"] == "busybox"


def test_a_build_that_goes_on_is_in_the_history(newer: Buildx) -> None:
    client = newer.popen("buildx", "build", "--progress=plain", "--target", "slow", "--no-cache", "ctx")
    assert client.stdout is not None
    try:
        for line in client.stdout:
            if line.endswith("begun\n") and "RUN" not in line:
                break
        lines = newer("buildx", "history", "ls").splitlines()
        assert "Running" in lines[1]
        assert "(running)" in newer("buildx", "history", "inspect", lines[1].split()[0])
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=SECONDS)
    finally:
        client.kill()
        client.wait()
    assert "Canceled" in newer("buildx", "history", "inspect")


def test_the_process_leaves_when_nothing_is_built(buildx: Buildx, moorage: Instance) -> None:
    buildx.build("-t", "x", "ctx")
    moorage.wait_idle(SECONDS)
    assert "CACHED" in buildx.build("-t", "x", "ctx")


def test_idle_connections_do_not_hold_the_process(buildx: Buildx, moorage: Instance) -> None:
    """A client that keeps its connection, and one that speaks HTTP/2 at once."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    upgrade = b"POST /grpc HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for connection, hello in ((first, preface), (second, upgrade + preface)):
            connection.settimeout(SECONDS)
            connection.connect(moorage.socket)
            connection.sendall(hello)
        for connection, hello in ((first, preface), (second, upgrade + preface)):
            got = b""
            while piece := connection.recv(65536):
                got += piece
            assert got.startswith(b"HTTP/1.1 101 ") is (hello != preface)
            assert (b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" in got) is (hello != preface)
            assert got[-17:-14] == b"\0\0\x08"  # the last frame has eight bytes …
            assert got[-14] == 7  # … and is a GOAWAY
    moorage.wait_idle(SECONDS)


@pytest.fixture(autouse=True)
def _nothing_is_left(moorage: Instance) -> Iterator[None]:
    """A build leaves no mount, no container, no process."""
    yield
    moorage.until(lambda: not moorage.leftovers(), SECONDS, "a build left something")

"""What builds can do beside their everyday work, with real parts: agents, git repositories, caches, other times."""

import base64
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import image
from tests.support.buildx import Buildx
from tests.support.instance import Instance
from tests.support.registry import Registry
from tests.support.ssh import Agent, need

SECONDS = 120.0
EPOCH = 1_500_000_000


@pytest.fixture(scope="module")
def buildx(moorage: Instance, tmp_path_factory: pytest.TempPathFactory) -> Buildx:
    """buildx, in a folder of its own."""
    return Buildx(moorage, tmp_path_factory.mktemp("features"))


@pytest.fixture(autouse=True)
def _nothing_is_left(moorage: Instance) -> Iterator[None]:
    """A build leaves no mount, no container, no process."""
    yield
    moorage.until(lambda: not moorage.leftovers(), SECONDS, "a build left something")


def built(buildx: Buildx, dockerfile: str, *arguments: str, code: int = 0, **environment: str) -> str:
    """Build a Dockerfile that needs no context; what was told."""
    return buildx.build(*arguments, "-", stdin=dockerfile.encode(), code=code, **environment)


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────────────────

TIMED = """\
FROM busybox AS base
RUN mkdir /d && echo one >/d/young && touch -d @1000000000 /d/old && rm /bin/vi
WORKDIR /w/deep
FROM base
COPY <<A /d/copied
text
A
RUN touch -d @1600000000 /d/later; ln /d/later /d/link
"""


def test_two_builds_are_one_image_when_times_are_rewritten(buildx: Buildx, moorage: Instance) -> None:
    ids = []
    for number in range(2):
        output = f"type=image,name=timed:{number},rewrite-timestamp=true"
        built(buildx, TIMED, "--no-cache", "-o", output, SOURCE_DATE_EPOCH=str(EPOCH))
        ids.append(moorage.docker("image", "inspect", "-f", "{{.Id}}", f"timed:{number}").stdout)
    assert ids[0] == ids[1]
    told = moorage.docker(
        "run", "--rm", "timed:0", "sh", "-c", "stat -c '%n %Y' /d /d/* /w /w/deep; stat -c %h /d/link; ls /bin/vi",
        check=False,
    ).stdout  # fmt: skip
    seen = dict(line.split() for line in told.splitlines() if " " in line)
    assert seen.pop("/d/old") == "1000000000"
    assert seen == dict.fromkeys(("/d", "/d/copied", "/d/later", "/d/link", "/d/young", "/w", "/w/deep"), str(EPOCH))
    assert told.splitlines()[-1] == "2"
    base = moorage.docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", "busybox").stdout
    made = moorage.docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", "timed:0").stdout
    assert made.startswith(base.rstrip("]\n"))


def test_times_stay_without_being_asked_for(buildx: Buildx, moorage: Instance) -> None:
    built(buildx, TIMED, "-t", "untimed", SOURCE_DATE_EPOCH=str(EPOCH))
    assert int(moorage.docker("run", "--rm", "untimed", "stat", "-c", "%Y", "/d/young").stdout) > EPOCH
    built(buildx, TIMED, "-o", "type=image,name=untimed,rewrite-timestamp=true")
    assert int(moorage.docker("run", "--rm", "untimed", "stat", "-c", "%Y", "/d/young").stdout) > EPOCH
    said = built(buildx, TIMED, "-o", "type=image,rewrite-timestamp=maybe", code=1, SOURCE_DATE_EPOCH=str(EPOCH))
    assert "non-bool value for rewrite-timestamp" in said


def test_files_for_the_client_are_of_the_epoch(buildx: Buildx) -> None:
    dockerfile = "FROM scratch\nCOPY <<A /d/a\nA\n"
    built(buildx, dockerfile, "-o", "type=local,dest=local", SOURCE_DATE_EPOCH=str(EPOCH))
    assert {os.stat(buildx.folder / "local" / path).st_mtime for path in ("d", "d/a")} == {EPOCH}
    built(buildx, dockerfile, "-o", "type=tar,dest=all.tar", SOURCE_DATE_EPOCH=str(EPOCH))
    with tarfile.open(buildx.folder / "all.tar") as archive:
        assert {member.mtime for member in archive} == {EPOCH}


# ── other machines ───────────────────────────────────────────────────────────────────────────────────────────────────

FOREIGN = "FROM scratch\nCOPY busybox /bin/busybox\nARG TARGETARCH\nENV MADE_FOR=$TARGETARCH\n"
OURS = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")


def test_a_build_for_another_machine_runs_nothing_and_says_so(buildx: Buildx, moorage: Instance) -> None:
    other = "arm64" if OURS == "amd64" else "amd64"
    context = buildx.folder / "foreign"
    context.mkdir()
    shutil.copy(arm_busybox() if other == "arm64" and arm_busybox() else "/bin/true", context / "busybox")
    (context / "Dockerfile").write_text(FOREIGN)
    buildx.build("--platform", f"linux/{other}", "-t", "foreign", "foreign")
    told = moorage.docker("image", "inspect", "-f", "{{.Architecture}} {{.Config.Env}}", "foreign").stdout
    assert told.startswith(f"{other} ")
    assert f"MADE_FOR={other}" in told
    asked = moorage.docker("create", "--platform", f"linux/{other}", "foreign", "x")
    assert asked.stderr == ""
    unasked = moorage.docker("create", "foreign", "x").stderr
    assert f"The requested image's platform (linux/{other}) does not match the detected host platform" in unasked
    moorage.docker("rm", *moorage.docker("ps", "-aq").stdout.split())
    said = buildx.build("--platform", f"linux/{other}", "-", stdin=b"FROM busybox\nRUN true\n", code=1)
    assert "busybox: failed to resolve source metadata" in said  # the one that is here is for this machine
    crossed = (
        b"FROM --platform=$BUILDPLATFORM busybox\nARG BUILDARCH TARGETARCH\nRUN echo $BUILDARCH makes $TARGETARCH\n"
    )
    said = buildx.build("--platform", f"linux/{other}", "-t", "crossed", "-", stdin=crossed)
    assert f"{OURS} makes {other}" in said
    assert moorage.docker("image", "inspect", "-f", "{{.Architecture}}", "crossed").stdout == f"{other}\n"
    assert "not supported" in buildx.build("--platform", "linux/amd64,linux/arm64", "-", stdin=crossed, code=1)
    assert "unknown operating system" in buildx.build("-", stdin=b"FROM --platform=nosuch busybox\n", code=1)


def arm_busybox() -> str:
    """A static program of arm64's, where Debian's packages of it were unpacked."""
    return os.environ.get("MOORAGE_TEST_ARM64_BUSYBOX", "")


@pytest.fixture
def emulation() -> Iterator[str]:
    """A static busybox of arm64, which this machine runs by qemu for as long as the test lasts."""
    program, interpreter = arm_busybox(), shutil.which("qemu-aarch64-static")
    if OURS != "amd64" or not program or not interpreter:
        pytest.skip("no qemu-aarch64-static, or no arm64 busybox (MOORAGE_TEST_ARM64_BUSYBOX) here")
    folder, name = "/proc/sys/fs/binfmt_misc", "qemu-aarch64"
    mounted = not os.path.exists(f"{folder}/register")
    if mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", folder], check=True)
    known = os.path.exists(f"{folder}/{name}")
    try:
        if not known:
            magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
            mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
            Path(folder, "register").write_text(f":{name}:M::{magic}:{mask}:{interpreter}:F")
        yield program
    finally:
        if not known and os.path.exists(f"{folder}/{name}"):
            Path(folder, name).write_text("-1")
        if mounted:
            subprocess.run(["umount", folder], check=True)


def test_without_a_handler_the_reason_is_told(buildx: Buildx) -> None:
    if not arm_busybox() or OURS != "amd64" or os.path.exists("/proc/sys/fs/binfmt_misc/qemu-aarch64"):
        pytest.skip("nothing here that cannot be run")
    context = buildx.folder / "unknown"
    context.mkdir()
    shutil.copy(arm_busybox(), context / "busybox")
    (context / "Dockerfile").write_text(FOREIGN + 'RUN ["/bin/busybox", "true"]\n')
    said = buildx.build("--platform", "linux/arm64", "unknown", code=1)
    assert "exec format error" in said
    assert "has no binfmt_misc handler" in said


def test_a_build_for_another_machine_by_emulation(emulation: str, buildx: Buildx, moorage: Instance) -> None:
    context = buildx.folder / "emulated"
    context.mkdir()
    shutil.copy(emulation, context / "busybox")
    (context / "Dockerfile").write_text(
        FOREIGN + 'SHELL ["/bin/busybox", "sh", "-c"]\nRUN busybox uname -m; echo for $TARGETARCH >/made\n'
    )
    said = buildx.build("--platform", "linux/arm64", "-t", "emulated", "emulated")
    assert any(line.endswith(" aarch64") for line in said.splitlines())
    run = ("run", "--rm", "--platform", "linux/arm64", "emulated", "/bin/busybox")
    assert moorage.docker(*run, "uname", "-m").stdout == "aarch64\n"
    assert moorage.docker(*run, "cat", "/made").stdout == "for arm64\n"
    classic = subprocess.run(
        ["docker", "build", "--platform", "linux/arm64", "-t", "classic", "emulated"],
        env={**buildx.environment, "DOCKER_BUILDKIT": "0"}, cwd=buildx.folder, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert "aarch64" in classic.stdout, classic.stderr
    assert moorage.docker("image", "inspect", "-f", "{{.Architecture}}", "classic").stdout == "arm64\n"
    assert "linux/arm64" in buildx("buildx", "inspect")


# ── from the network ─────────────────────────────────────────────────────────────────────────────────────────────────


class Served:
    """Files on 127.0.0.1, with a git repository among them: by git's own protocol, and as files of a HTTP server.

    `token`: what the HTTP server wants to be told under /private.
    """

    token = "t0ken"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        repository = folder / "repo.git"
        (repository / "sub").mkdir(parents=True)
        (repository / "sub/Dockerfile").write_text("FROM busybox\nCOPY . /c\nRUN cat /c/s\n")
        (repository / "sub/s").write_text("below\n")
        self._git("init", "-q", "-b", "main")
        self.commits = []
        for text in ("one", "two"):
            (repository / "a").write_text(text)
            self._git("add", ".")
            self._git("commit", "-q", "-m", text)
            self.commits.append(self._git("rev-parse", "HEAD").strip())
            self._git("tag", "-a", "-m", text, f"v-{text}")
        for name in ("dumb.git", "private.git"):
            subprocess.run(["git", "clone", "-q", "--bare", repository, folder / name], check=True, timeout=SECONDS)
            subprocess.run(["git", "-C", folder / name, "update-server-info"], check=True, timeout=SECONDS)
        (folder / "file").write_text("content\n")
        with tarfile.open(folder / "context.tar.gz", "w:gz") as archive:
            archive.add(repository / "sub", ".")

    def _git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=m", "-c", "user.email=m@x.test")
        return subprocess.run(
            ["git", "-C", self.folder / "repo.git", *identity, *arguments],
            check=True, capture_output=True, text=True, timeout=SECONDS,
        ).stdout  # fmt: skip

    def __enter__(self) -> "Served":
        served = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(served.folder))

            def do_GET(self) -> None:
                wanted = base64.b64encode(f"x-access-token:{served.token}".encode()).decode()
                if self.path.startswith("/private") and self.headers.get("Authorization") != f"basic {wanted}":
                    self.send_error(401)
                    return
                super().do_GET()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ("--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={self.folder}")
        self._daemon = subprocess.Popen(["git", "daemon", *options], start_new_session=True)
        self.git = f"git://127.0.0.1:{port}/repo.git"
        until = time.monotonic() + SECONDS
        while subprocess.run(
            ["git", "ls-remote", self.git], capture_output=True, timeout=SECONDS, check=False
        ).returncode:
            assert time.monotonic() < until, "git does not serve"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        os.killpg(self._daemon.pid, signal.SIGTERM)
        self._daemon.wait(SECONDS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of files and of a git repository."""
    with Served(tmp_path_factory.mktemp("served")) as running:
        yield running


def shown(said: str) -> list[str]:
    """What the commands of a build have written."""
    return [found[1] for found in re.finditer(r"^#\d+ \d+\.\d+ (.*)$", said, re.MULTILINE)]


def test_add_of_git_repositories(buildx: Buildx, served: Served) -> None:
    first, second = served.commits
    for source, flags, content in (
        (served.git, "", "two"),
        (f"{served.git}#v-one", "", "one"),
        (f"{served.git}#{first}", f"--checksum={first[:12]}", "one"),
        (f"{served.git}#main", f"--checksum={second} --chown=3:4", "two"),
        (f"{served.http}/dumb.git", "", "two"),
        (f"{served.http}/dumb.git#v-one", "", "one"),
        (f"{served.git}?tag=v-one&keep-git-dir=false", "", "one"),
        (f"{served.http}/dumb.git?branch=main&checksum={second}", "", "two"),
        (f"{served.git}?fetch-by-commit&commit={first}", "", "one"),
    ):
        run = "RUN cat /g/a; ls -A /g | tr '\\n' ' '; stat -c %u /g/a\n"
        said = built(buildx, f"FROM busybox\nADD {flags} {source} /g\n{run}", "--no-cache")
        assert shown(said) == [f"{content}a sub {'3' if 'chown' in flags else '0'}"], source
    said = built(buildx, f"FROM busybox\nADD {served.git}#main:sub /g\nRUN ls -A /g; cat /g/s\n")
    assert shown(said) == ["Dockerfile", "s", "below"]
    said = built(buildx, f"FROM busybox\nADD --keep-git-dir {served.git}#v-one /g\nRUN cat /g/.git/HEAD\n")
    assert shown(said) == [first]


def test_add_of_git_repositories_that_fail(buildx: Buildx, served: Served) -> None:
    first, second = served.commits
    for source, flags, complaint in (
        (f"{served.git}#nosuch", "", "repository does not contain ref nosuch"),
        (f"{served.http}/dumb.git#nosuch", "", "repository does not contain ref nosuch"),
        (f"{served.git}#main:../..", "", "not within git root"),
        (served.git, f"--checksum={first}", f"expected checksum to match {first}, got {second}"),
        (served.git, "--checksum=sha256:12", "expected hex commit hash"),
        (f"{served.git}?tag=v-one&checksum={second}", "", f"expected checksum to match {second}, got {first}"),
        (f"{served.git}?tag=v-one&branch=main", "", "branch conflicts with tag"),
        (f"{served.http}/nosuch.git", "", "not found"),
        (f"{served.http}/private.git", "", "could not read Username"),
    ):
        assert complaint in built(buildx, f"FROM busybox\nADD {flags} {source} /g\n", code=1), source
    assert "source can't be a git ref for COPY" in built(buildx, f"FROM busybox\nCOPY {served.git} /g\n", code=1)


def test_a_token_opens_a_git_repository(buildx: Buildx, served: Served, moorage: Instance) -> None:
    (buildx.folder / "token").write_text(served.token)
    dockerfile = f"FROM busybox\nADD {served.http}/private.git#v-one /g\nRUN cat /g/a\n"
    for name in ("GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN.127.0.0.1"):
        said = built(buildx, dockerfile, "--no-cache", "-t", "private", "--secret", f"id={name},src=token")
        assert shown(said) == ["one"]
    assert served.token not in moorage.log()
    assert served.token not in moorage.docker("history", "--no-trunc", "private").stdout


def test_add_of_files(buildx: Buildx, served: Served) -> None:
    right = "sha256:" + hashlib.sha256(b"content\n").hexdigest()
    place = f"{served.http}/file"
    said = built(buildx, f"FROM busybox\nADD --checksum={right} {place} /d/\nRUN cat /d/file; stat -c %a /d/file\n")
    assert shown(said) == ["content", "600"]
    wrong = right[:-4] + "0000"
    for flags, sources, complaint in (
        (f"--checksum={wrong}", place, f"digest mismatch {right}: {wrong}"),
        ("--checksum=md5:12", place, "unsupported digest algorithm"),
        ("--checksum=sha256:12", place, "invalid checksum digest length"),
        ("--checksum=12", place, "invalid checksum digest format"),
        (f"--checksum={right}", f"{place} {place}", "checksum can't be specified for multiple sources"),
        ("", f"{served.http}/nosuch", "invalid response status 404"),
    ):
        assert complaint in built(buildx, f"FROM busybox\nADD {flags} {sources} /d/\n", code=1), flags
    unpacked = f"FROM busybox\nADD --unpack {served.http}/context.tar.gz /d\nRUN cat /d/s\n"
    assert shown(built(buildx, unpacked)) == ["below"]
    left = f"FROM busybox\nADD {served.http}/context.tar.gz /d/\nRUN ls /d\n"
    assert shown(built(buildx, left)) == ["context.tar.gz"]


def test_contexts_in_the_network(buildx: Buildx, served: Served, moorage: Instance) -> None:
    for place in (f"{served.git}#main:sub", f"{served.http}/dumb.git#v-one:sub", f"{served.http}/context.tar.gz"):
        assert shown(buildx.build("--no-cache", place)) == ["below"], place
    assert shown(buildx.build("--no-cache", "-f", "sub/Dockerfile", served.git, code=1)) == [
        "cat: can't open '/c/s': No such file or directory"
    ]
    for value, path, content in (
        (f"{served.git}#v-one", "a", "one"),
        (f"{served.git}#main:sub", "s", "below"),
        (f"{served.http}/context.tar.gz", "s", "below"),
        ("docker-image://busybox", "etc/group", "root:x:0:"),
        (str(served.folder), "file", "content"),
    ):
        dockerfile = f"FROM busybox AS x\nFROM busybox\nCOPY --from=x /{path} /got\nRUN head -n1 /got\n"
        assert shown(built(buildx, dockerfile, "--no-cache", "--build-context", f"x={value}")) == [content], value


def laid_out(folder: Path, layer: bytes, variables: "list[str]") -> str:
    """Make an OCI layout at `folder` with an image of one layer, tagged `out`; the digest of its manifest."""
    (folder / "blobs/sha256").mkdir(parents=True)

    def blob(content: bytes) -> "dict[str, Any]":
        digest = hashlib.sha256(content).hexdigest()
        (folder / "blobs/sha256" / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    def document(kind: str, content: "dict[str, Any]") -> "dict[str, Any]":
        return {"mediaType": f"application/vnd.oci.image.{kind}+json", **blob(json.dumps(content).encode())}

    packed = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **blob(gzip.compress(layer))}
    configuration = document(
        "config.v1",
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": variables},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        },
    )
    manifest = document("manifest.v1", {"schemaVersion": 2, "config": configuration, "layers": [packed]})
    tagged = {**manifest, "annotations": {"org.opencontainers.image.ref.name": "out"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [tagged]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    digest: str = manifest["digest"]
    return digest


def test_a_context_is_an_oci_layout(buildx: Buildx) -> None:
    """An image that is only in a directory of the client's: by its tag or digest, as a base and for its files."""
    content, layout = os.urandom(8).hex(), buildx.folder / "layout"
    digest = laid_out(layout, image.layer({"in": content + "\n"}), ["OF=layout"])

    def build(place: str, dockerfile: str, code: int = 0) -> str:
        return built(buildx, dockerfile, "--no-cache", "--build-context", f"x=oci-layout://{layout}{place}", code=code)

    base = "FROM x\nCOPY --from=busybox /bin /bin\nRUN cat /in && echo $OF\n"
    files = "FROM busybox\nCOPY --from=x /in /got\nRUN cat /got\n"
    (packed,) = json.loads((layout / "blobs/sha256" / digest[7:]).read_text())["layers"]
    broken = layout / "blobs/sha256" / packed["digest"][7:]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"verification failed for digest {packed['digest']}" in build(":out", base, code=1)
    broken.write_bytes(whole)
    assert shown(build(":out", base)) == [content, "layout"]
    assert shown(build(f"@{digest}", files)) == [content]
    assert "[context x] OCI load from client" in build(":out", files)


# ── RUN ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_real_agents_are_asked_from_a_step(buildx: Buildx, tmp_path: Path) -> None:
    need("ssh-agent", "ssh-add", "ssh-keygen")
    context = buildx.folder / "agents"
    context.mkdir()
    program = shutil.which("ssh-add") or ""
    needed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    for path in (program, *re.findall(r"(/\S+) \(0x", needed)):
        target = context / "root" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (context / "Dockerfile").write_text(
        f"FROM busybox\nCOPY root /\nRUN --mount=type=ssh {program} -l\n"
        f"RUN --mount=type=ssh,id=other,target=/s,uid=5,mode=0666 {program} -l; stat -c '%u %a' /s; "
        "echo $SSH_AUTH_SOCK\n"
        f"RUN --mount=type=ssh,id=third {program} -l || echo nobody\n"
    )
    with Agent(tmp_path, "first") as first, Agent(tmp_path, "second") as second:
        agents = ("--ssh", f"default={first.socket}", "--ssh", f"other={second.socket}")
        said = shown(buildx.build("--no-cache", *agents, "agents"))
        key = shown(buildx.build("--no-cache", "--ssh", f"default={second.key}", "agents"))
    assert [line.split()[2] for line in said if line.endswith("(ED25519)")] == ["first", "second"]
    assert said[2:4] == ["5 666", "/s"]
    assert "nobody" in said
    assert sum(line.endswith("(ED25519)") for line in key) == 1


def side_by_side(buildx: Buildx, dockerfile: str, count: int = 2) -> list[str]:
    """The same Dockerfile at the same time, each with an argument WHO of its own; what they have told."""
    path = buildx.folder / "Side"
    path.write_text(dockerfile)
    (buildx.folder / "nothing").mkdir(exist_ok=True)
    options = ("--progress=plain", "--no-cache", "-f", str(path))
    running = [
        buildx.popen("buildx", "build", *options, f"--build-arg=WHO={number}", "nothing")
        for number in range(count)
    ]  # fmt: skip
    told = []
    for client in running:
        told.append(client.communicate(timeout=SECONDS)[0])
        assert client.returncode == 0, told[-1]
    return told


MEETING = "touch /s/$WHO; until test -e /s/0 -a -e /s/1; do sleep 0.1; done"


def test_a_locked_cache_is_one_steps_alone(buildx: Buildx) -> None:
    step = "mkdir /c/in && sleep 1 && rmdir /c/in && echo $WHO >>/c/all && wc -l </c/all"
    said = side_by_side(
        buildx, f"FROM busybox\nARG WHO\nRUN --mount=type=cache,target=/c,sharing=locked,id=locked {step}\n", 3
    )
    assert sorted(shown(text)[-1] for text in said) == ["1", "2", "3"]


def test_a_shared_cache_is_used_by_several_at_once(buildx: Buildx) -> None:
    side_by_side(buildx, f"FROM busybox\nARG WHO\nRUN --mount=type=cache,target=/s,id=shared {MEETING}\n")


def test_a_private_cache_is_another_for_who_comes_meanwhile(buildx: Buildx) -> None:
    mounts = "--mount=type=cache,target=/s,id=meeting --mount=type=cache,target=/p,sharing=private,id=private"
    told = side_by_side(buildx, f"FROM busybox\nARG WHO\nRUN {mounts} touch /p/$WHO; {MEETING}; ls /p\n")
    assert sorted(shown(text)[-1] for text in told) == ["0", "1"]
    again = built(buildx, f"FROM busybox\nRUN {mounts} ls /p\n")
    assert shown(again) in (["0"], ["1"])  # one of the two goes on


def test_parents_come_along_from_any_depth(buildx: Buildx) -> None:
    context = buildx.folder / "parents"
    for path in ("d/a.md", "d/e/b.md", "d/e/f/c.md", "d/e/f/no.txt", "x.md"):
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_text(path)
    for source, wanted in (
        ("d/**/*.md", "/c/d/a.md /c/d/e/b.md /c/d/e/f/c.md"),
        ("**/f/*", "/c/d/e/f/c.md /c/d/e/f/no.txt"),
        ("./d/./e/b.md", "/c/e/b.md"),
        ("d/*/*.md x.md", "/c/d/e/b.md /c/x.md"),
    ):
        dockerfile = f"FROM busybox\nCOPY --parents {source} /c/\nRUN find /c -type f | sort | xargs\n"
        assert shown(buildx.build("--no-cache", "-f", "-", "parents", stdin=dockerfile.encode())) == [wanted], source


def test_what_is_written_to_a_stage_is_lost_with_the_step(buildx: Buildx) -> None:
    said = built(
        buildx,
        "FROM busybox AS s\nRUN mkdir /d && echo old >/d/f\nFROM busybox\n"
        "RUN --mount=from=s,source=/d,target=/d,rw echo new >/d/f && rm -r /d/../d/f && echo more >/d/g && ls /d\n"
        "RUN --mount=from=s,source=/d,target=/d cat /d/f; touch /d/x || echo read-only\n"
        "RUN --mount=from=s,source=/d/f,target=/f,rw echo new >>/f && cat /f\n",
    )
    assert [line for line in shown(said) if "touch" not in line] == ["g", "old", "read-only", "old", "new"]


def test_secrets_as_variables_and_files(buildx: Buildx) -> None:
    (buildx.folder / "secret").write_text("s3")
    told = built(
        buildx,
        "FROM busybox\nRUN --mount=type=secret,id=s,env=TOKEN echo $TOKEN; ls /run/secrets || echo no file\n"
        "RUN --mount=type=secret,id=s,env=TOKEN,target=/x/y,mode=0440,uid=5,gid=6 "
        "echo $TOKEN $(cat /x/y) $(stat -c '%a %u %g' /x/y)\n"
        "RUN ls /x || echo gone; echo =$TOKEN=\n",
        "--secret", "id=s,src=secret",
    )  # fmt: skip
    assert [line for line in shown(told) if not line.startswith("ls:")] == [
        "s3",
        "no file",
        "s3 s3 440 5 6",
        "gone",
        "==",
    ]


def test_entitlements_are_wanted(buildx: Buildx, moorage: Instance) -> None:
    host = "FROM busybox\nRUN --network=host ls /sys/class/net | sort | tr '\\n' ' '\n"
    assert "network.host is not allowed" in built(buildx, host, code=1)
    assert shown(built(buildx, host, "--allow", "network.host")) == [
        f"{' '.join(sorted(os.listdir('/sys/class/net')))} "
    ]
    insecure = "FROM busybox\nRUN --security=insecure grep CapEff /proc/self/status\n"
    assert "security.insecure is not allowed" in built(buildx, insecure, code=1)
    ours = shown(built(buildx, "FROM busybox\nRUN grep CapEff /proc/self/status\n"))
    said = built(buildx, insecure, "--allow", "security.insecure", code=1)  # nor may a user, unless daemon.json says so
    assert "granting entitlement security.insecure is not allowed by build daemon configuration" in said
    settings = Path(moorage.folder, "daemon.json")
    settings.write_text('{"builder": {"Entitlements": {"network-host": false, "security-insecure": true}}}')
    try:
        more = shown(built(buildx, insecure, "--allow", "security.insecure"))
        said = built(buildx, host, "--allow", "network.host", code=1)
        assert "granting entitlement network.host is not allowed by build daemon configuration" in said
    finally:
        settings.unlink()
    assert int(more[0].split()[1], 16) > int(ours[0].split()[1], 16)
    assert "not registered" in built(buildx, "FROM busybox\nRUN --device=vendor.test/x=y true\n", code=1)
    assert shown(built(buildx, "FROM busybox\nRUN --network=none ls /sys/class/net\n")) == ["lo"]


# ── the cache ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def registry() -> Iterator[Registry]:
    """An empty registry."""
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is missing")
    with Registry() as running:
        yield running


def forget(buildx: Buildx, moorage: Instance, *names: str) -> None:
    """Have nothing of the images, nor of the cache, any more."""
    moorage.docker("rmi", *names)
    buildx("buildx", "prune", "-af")


CACHED = "FROM busybox AS one\nRUN echo first >/a; echo once\nFROM one AS two\nRUN echo second >/b; echo twice\n"


def test_an_image_in_a_registry_brings_its_cache_along(buildx: Buildx, moorage: Instance, registry: Registry) -> None:
    name = f"{registry.address}/moles/cached:1"
    assert shown(built(buildx, CACHED, "--no-cache", "-t", name, "--cache-to", "type=inline")) == ["once", "twice"]
    moorage.docker("push", name)
    forget(buildx, moorage, name)
    said = built(buildx, CACHED, "-t", "again", "--cache-from", f"type=registry,ref={name}")
    assert shown(said) == []
    assert said.count("CACHED") >= 2
    assert moorage.docker("run", "--rm", "again", "cat", "/a", "/b").stdout == "first\nsecond\n"
    forget(buildx, moorage, "again")
    moorage.docker("rmi", "-f", name, check=False)
    buildx("buildx", "prune", "-af")
    changed = CACHED.replace("second", "other")
    assert shown(built(buildx, changed, "--cache-from", f"type=registry,ref={name}")) == ["twice"]
    missing = built(buildx, CACHED, "--no-cache", "--cache-from", f"type=registry,ref={registry.address}/no/such:1")
    assert shown(missing)[-2:] == ["once", "twice"]
    assert "failed to import cache manifest" in missing


def test_an_image_in_a_directory_brings_its_cache_along(buildx: Buildx, moorage: Instance) -> None:
    name, layout = "moles/cached:latest", buildx.folder / "cached"
    assert shown(built(buildx, CACHED, "--no-cache", "-t", name, "--cache-to", "type=inline")) == ["once", "twice"]
    buildx("save", "-o", "cached.tar", name)
    layout.mkdir()
    subprocess.run(["tar", "-xf", "cached.tar", "-C", layout], cwd=buildx.folder, check=True)
    options = ("--cache-from", f"type=local,src={layout}")
    forget(buildx, moorage, name)
    assert shown(built(buildx, CACHED, "-o", "type=cacheonly")) == ["once", "twice"]
    buildx("buildx", "prune", "-af")
    said = built(buildx, CACHED, "-t", "again", *options)
    assert shown(said) == []
    assert said.count("CACHED") >= 2
    assert moorage.docker("run", "--rm", "again", "cat", "/a", "/b").stdout == "first\nsecond\n"
    forget(buildx, moorage, "again")
    config = json.loads((layout / "manifest.json").read_bytes())[0]["Config"]
    (layout / config).write_bytes(b"{}")  # not what its digest says
    damaged = built(buildx, CACHED, *options)
    assert shown(damaged)[-2:] == ["once", "twice"]
    assert "failed to import cache manifest" in damaged


@pytest.mark.parametrize("kind", ["index", "manifest"])
def test_a_cache_in_buildkits_own_form_is_only_warned_of(buildx: Buildx, kind: str) -> None:
    layout = buildx.folder / f"foreign-{kind}"
    (layout / "blobs/sha256").mkdir(parents=True)

    def kept(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    layer = kept(gzip.compress(b"a layer"), "application/vnd.oci.image.layer.v1.tar+gzip")
    told = {"layers": [{"blob": layer["digest"], "parent": -1}], "records": []}
    config = kept(json.dumps(told).encode(), "application/vnd.buildkit.cacheconfig.v0")
    media_type = f"application/vnd.oci.image.{kind}.v1+json"
    parts = {"manifests": [layer, config]} if kind == "index" else {"config": config, "layers": [layer]}
    document = kept(json.dumps({"schemaVersion": 2, "mediaType": media_type, **parts}).encode(), media_type)
    document["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [document]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    said = built(buildx, CACHED, "--no-cache", "--cache-from", f"type=local,src={layout}")
    assert shown(said)[-2:] == ["once", "twice"]
    assert "failed to import cache manifest" in said


def test_stages_can_be_kept_out_of_the_cache(buildx: Buildx) -> None:
    built(buildx, CACHED)
    assert shown(built(buildx, CACHED)) == []
    assert shown(built(buildx, CACHED, "--no-cache-filter", "two")) == ["twice"]
    assert shown(built(buildx, CACHED, "--no-cache-filter", "one"))[0] == "once"
    assert shown(built(buildx, CACHED, "--no-cache-filter", "one,two")) == ["once", "twice"]


def test_pull_asks_the_registry(buildx: Buildx, moorage: Instance, registry: Registry) -> None:
    name = f"{registry.address}/moles/base:1"
    for number in (2, 1):  # the registry ends up with an image that is not the one here
        built(buildx, f"FROM busybox\nRUN echo {number} >/number\n", "-t", name)
        if number == 2:
            moorage.docker("push", name)
    dockerfile = f"FROM {name}\nRUN cat /number\n"
    assert shown(built(buildx, dockerfile, "--no-cache")) == ["1"]
    assert shown(built(buildx, dockerfile, "--no-cache", "--pull")) == ["2"]
    moorage.docker("rmi", "-f", name)


def test_what_is_used_least_goes_when_the_cache_is_full(buildx: Buildx, moorage: Instance) -> None:
    buildx("buildx", "prune", "-af")
    settings = Path(moorage.folder, "daemon.json")
    settings.write_text('{"builder": {"gc": {"defaultKeepStorage": "25MB"}}}')
    large = "FROM busybox\nRUN dd if=/dev/urandom of=/large bs=1M count=10 2>/dev/null; echo made {}\n"
    try:
        for number in (1, 2, 1, 3):
            built(buildx, large.format(number), "-o", "type=cacheonly")
        moorage.until(lambda: kept(buildx) <= 25 << 20, SECONDS, "the cache stays too large")
        assert shown(built(buildx, large.format(1), "-o", "type=cacheonly")) == []
        assert shown(built(buildx, large.format(3), "-o", "type=cacheonly")) == []
        assert shown(built(buildx, large.format(2), "-o", "type=cacheonly")) == ["made 2"]
    finally:
        settings.unlink()


def kept(buildx: Buildx) -> int:
    """Bytes of the cache."""
    found = re.search(r"^Total:\s+([0-9.]+)(B|kB|MB|GB)$", buildx("buildx", "du"), re.MULTILINE)
    assert found is not None
    return int(float(found[1]) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[found[2]])


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────────────────────────

KILLED = """\
FROM busybox AS a
RUN --mount=type=cache,target=/c echo x >>/c/x; mkdir /d; for i in 1 2 3 4 5 6 7 8 9; do echo $i >/d/$i; done
COPY --from=busybox /bin /copied
FROM busybox AS b
WORKDIR /w
RUN --mount=from=a,target=/a,rw rm -r /a/d; sleep 0.2
ADD all.tar /t
FROM a
COPY --from=b /t /t
RUN --mount=type=secret,id=s sleep 0.3; rm -r /copied
COPY . /all
"""


@pytest.mark.timeout(600)
def test_builds_that_are_killed_anywhere_leave_nothing(buildx: Buildx, moorage: Instance) -> None:
    context = buildx.folder / "killed"
    context.mkdir()
    (context / "Dockerfile").write_text(KILLED)
    (context / "s").write_text("s3cret")
    subprocess.run(["tar", "-C", "/usr/share", "-cf", f"{context}/all.tar", "doc/libc6"], check=True, timeout=SECONDS)
    build = (
        "buildx",
        "build",
        "--progress=plain",
        "--no-cache",
        "--secret",
        "id=s,src=killed/s",
        "-t",
        "killed",
        "killed",
    )
    buildx(*build)
    moments, clients = random.Random(26), []
    for number in range(8):
        clients.append(buildx.popen(*build))
        time.sleep(moments.uniform(0.1, 2.5))
        moorage.kill_service()
        buildx("buildx", "ls")  # the next process finds what was left
        moorage.until(lambda: not moorage.leftovers(), SECONDS, f"the killed build number {number} left something")
        for folder, _, names in os.walk(f"{moorage.run}/builds"):
            assert not names, f"{folder} holds {names}"
    for client in clients:  # they notice after a while
        assert client.communicate(timeout=SECONDS)[0]
    assert "naming to docker.io/library/killed" in buildx(*build)
    used = {layer for layer in os.listdir(f"{moorage.root}/layers") if layer != "base"}
    moorage.docker("rmi", "killed")
    buildx("buildx", "prune", "-af")
    moorage.docker("image", "prune", "-f")
    left = {layer for layer in os.listdir(f"{moorage.root}/layers") if layer != "base"}
    images = moorage.docker("images", "-aq").stdout.split()
    held = sum(
        len(moorage.docker("image", "inspect", "-f", "{{range .RootFS.Layers}}x{{end}}", image).stdout.strip())
        for image in set(images)
    )
    assert len(left) <= held < len(used) + held
    assert not os.listdir(f"{moorage.root}/build") if os.path.isdir(f"{moorage.root}/build") else True

# ruff: noqa: E501 - Dockerfiles are shown as lines
"""The same Dockerfiles through buildx to dockerd's BuildKit and to moorage: the same configurations, histories and trees,
and the same complaints. What differs stands below with its reason, and must differ."""

import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.differential.dockerd import Dockerd, Unavailable
from tests.differential.test_same_builds import worded
from tests.support import image
from tests.support.dockerfile_edges import BAD_EDGES, GOOD_EDGES
from tests.support.dockerfile_later import LATER, LATER_BAD
from tests.support.dockerfiles import BAD, FILES, GOOD, Case, tar
from tests.support.instance import Instance

_OURS = ("dev", "proc", "sys", ".dockerenv")  # what an engine puts into every container
_MASKED = (
    (r"ref [0-9a-z-]+::[0-9a-z]+", "ref REF"),
    (r"^failed to run Build function: ", "failed to solve: "),  # buildx tells whichever of its two errors comes first
    (r"rpc error: code = Unknown desc = (?=invalid includepatterns)", ""),
    (r"/tmp/\S*?/merged/", "/"),
    (r"\b[0-9a-f]{12}\b|sha256:[0-9a-f]{64}", "ID"),
)

MORE = [
    Case("two stages", "FROM busybox AS one\nRUN echo 1 >/f\nFROM scratch\nCOPY --from=one /f /g\n"),
    Case("a stage by number", "FROM busybox\nRUN echo 1 >/f\nFROM busybox\nCOPY --from=0 /f /g\n"),
    Case("an unused stage", "FROM busybox AS bad\nRUN false\nFROM busybox\nRUN true\n"),
    Case("target", "FROM busybox AS one\nRUN echo 1 >/f\nFROM one\nRUN false\n", query={"target": "one"}),
    Case("a later stage builds on one", "FROM busybox AS a\nENV X=1\nLABEL l=1\nCMD x\nFROM a\nENV Y=$X\nCMD y\n"),
    Case("copy of an image", "FROM scratch\nCOPY --from=busybox /bin/true /t\n"),
    Case("bind mount", "FROM busybox\nRUN --mount=target=/c cp /c/a /b\n"),
    Case("bind mount of a stage", "FROM busybox AS s\nRUN echo 1 >/f\nFROM busybox\nRUN --mount=from=s,target=/s cp /s/f /g\n"),
    Case("bind mount of a file", "FROM busybox\nRUN --mount=source=a,target=/deep/down/a cp /deep/down/a /b\n"),
    Case("writable bind mount", "FROM busybox\nRUN --mount=target=/c,rw echo x >/c/a; cp /c/a /b\nCOPY a /a\n"),
    Case("cache mount", "FROM busybox\nRUN --mount=type=cache,target=/c echo x >/c/a\nRUN --mount=type=cache,target=/c cp /c/a /b\n"),
    Case("cache mount with owner", "FROM busybox\nRUN --mount=type=cache,target=/c,uid=3,gid=4,mode=0711 stat -c '%u %g %a' /c >/s\n"),
    Case("cache mount below the root's home", "FROM busybox\nRUN --mount=type=cache,target=/root/.cache/x echo >/root/.cache/y\n"),
    Case("tmpfs mount", "FROM busybox\nRUN --mount=type=tmpfs,target=/t touch /t/x && stat -c %a /t >/s\n"),
    Case("a secret that is not there", "FROM busybox\nRUN --mount=type=secret,id=s ls /run >/l\n"),
    Case("network none", "FROM busybox\nRUN --network=none ls /sys/class/net >/n\n"),
    Case("heredoc of several files", "FROM busybox\nCOPY <<A <<B /d/\na\nA\nb\nB\n"),
    Case("heredoc with variables", "FROM busybox\nARG X=1\nCOPY <<A /a\n$X ${X} \\$X\nA\nCOPY <<'B' /b\n$X\nB\n"),
    Case("heredoc with its own interpreter", "FROM busybox\nRUN <<E\n#!/bin/sh\necho $0 >/n\nE\n"),
    Case("heredoc to a command", "FROM busybox\nRUN cat >/x <<E\nhello\nE\n"),
    Case("heredoc without tabs", "FROM busybox\nCOPY <<-E /x\n\t\ttext\n\tE\n"),
    Case("heredoc with mode and owner", "FROM busybox\nCOPY --chmod=755 --chown=5:6 <<E /x\n#!/bin/sh\nE\n"),
    Case("work directory of a user", "FROM busybox\nUSER 7:8\nWORKDIR /a/b\nRUN touch f\n"),
    Case("work directory with variables", "FROM busybox\nENV D=/x\nWORKDIR $D/y\nWORKDIR z\nRUN pwd >f\n"),
    Case("work directory that is there", "FROM busybox\nWORKDIR /tmp\nWORKDIR /\nCOPY a .\n"),
    Case("copy directory to a new one", "FROM busybox\nCOPY dir /new\n"),
    Case("copy directory into one", "FROM busybox\nCOPY dir /tmp\nCOPY dir /tmp/\nCOPY dir/. /tmp/x/\n"),
    Case("copy with chmod", "FROM busybox\nCOPY --chmod=0711 dir /d\nCOPY --chmod=4755 a /a\n"),
    Case("copy with chown by name", "FROM busybox\nCOPY --chown=www-data a /a\nCOPY --chown=root:mail dir /d\n"),
    Case("copy a link", "FROM busybox\nCOPY link /l\nCOPY dir/link /m\nCOPY linkdir /ld\n"),
    Case("copy through a link", "FROM busybox\nRUN mkdir /r && ln -s /r /s\nCOPY a /s/\nCOPY dir /s\n"),
    Case("copy over a link", "FROM busybox\nRUN echo >/r && ln -s /r /s\nCOPY a /s\n"),
    Case("copy over a directory", "FROM busybox\nRUN mkdir -m 700 /d && touch /d/x /d/q\nCOPY dir /d\n"),
    Case("copy wildcards", "FROM busybox\nCOPY [ab] /x/\nCOPY d*/* /y/\nCOPY a? /z/\n"),
    Case("copy everything", "FROM busybox\nCOPY . /all/\n"),
    Case("copy from keeps owners", "FROM busybox AS s\nRUN mkdir /d && touch /d/f && chown -R 3:4 /d\nFROM busybox\nCOPY --from=s /d /e\n"),
    Case("copy with link", "FROM busybox\nCOPY --link a /b/c\nCOPY --link --chown=1:1 dir /d/\n"),
    Case("add archives", "FROM busybox\nADD arc.tar.gz /g\nADD arc.tar /t/\nADD arc.tar.xz /x\nADD text.gz /\n"),
    Case("add archive of a stage", "FROM busybox AS s\nCOPY arc.tar /\nFROM busybox\nCOPY --from=s /arc.tar /\n"),
    Case("left out of the context", "FROM busybox\nCOPY . /c/\n", {**FILES, ".dockerignore": "*\n!a\n!dir\ndir/sub\n"}),
    Case("arguments", "ARG T=latest\nFROM busybox:$T\nARG T\nARG U=u V\nRUN echo $T $U $V >/o\n", query={"buildargs": "V=v"}),
    Case("predefined arguments", "FROM busybox\nRUN echo $HTTP_PROXY >/o\n", query={"buildargs": "HTTP_PROXY=http://x"}),
    Case("platform arguments", "FROM --platform=$BUILDPLATFORM busybox\nARG TARGETARCH\nARG TARGETOS BUILDPLATFORM\nRUN echo $TARGETOS/$TARGETARCH $BUILDPLATFORM >/o\n"),
    Case("argument and environment", "FROM busybox\nENV A=1\nARG A=2\nRUN echo $A >/o\nARG B=3\nENV B=4\nRUN echo $B >>/o\n"),
    Case("shell", 'FROM busybox\nSHELL ["/bin/ash", "-ec"]\nRUN echo $0 >/o\nCMD x\nENTRYPOINT y\n'),
    Case("exec form", 'FROM busybox\nRUN ["touch", "/a b"]\nCMD ["x"]\nENTRYPOINT ["y", "z"]\n'),
    Case("entrypoint takes the command away", 'FROM busybox\nENTRYPOINT ["y"]\n'),
    Case("configuration only", "FROM busybox\nENV A=b\nLABEL x=y\nEXPOSE 1 2/udp 3-5\nUSER u\nSTOPSIGNAL SIGTERM\nVOLUME /a /b\n"),
    Case("nothing but a base", "FROM busybox\n"),
    Case("from nothing", "FROM scratch\nCOPY a /\nENV X=1\n"),
    Case("health", "FROM busybox\nHEALTHCHECK --interval=1m --timeout=2s --retries=3 CMD true\n"),
    Case("no health", "FROM busybox\nHEALTHCHECK NONE\n"),
    Case("triggers", "FROM busybox AS t\nONBUILD RUN echo x >/o\nONBUILD COPY a /\nFROM t\nRUN cat /o /a\n"),
    Case("labels of the client", "FROM busybox\nLABEL a=b\n", query={"labels": "c=d"}),
    Case("volume keeps what is written", "FROM busybox\nVOLUME /v\nRUN echo x >/v/x\n"),
    Case("files that go", "FROM busybox\nRUN touch /a /b && mkdir /d && touch /d/x\nRUN rm -r /a /d\nRUN mkdir /d && touch /d/y\n"),
    Case("what a step sees", "FROM busybox\nWORKDIR /w\nRUN env | sort >e; id >i; hostname >h; pwd >p; grep Cap /proc/self/status >c; ls /dev >d; stat -c '%a %u' / /tmp >s\n"),
    Case("a syntax line", "# syntax=docker/dockerfile:1\nFROM busybox\nRUN true\n"),
    Case("another escape", "# escape=`\nFROM busybox\nRUN echo a `\n  b >/o\n"),
    Case("modifiers", "FROM busybox\nARG A=abc\nENV B=${A:-x} C=${Z:-y} D=${A:+z}\n"),
    Case("continued with comments", "FROM busybox\nRUN echo a && \\\n# comment\n  echo b >/o\n"),
]  # fmt: skip

WRONG = [
    Case("a command that fails", "FROM busybox\nRUN exit 3\n"),
    Case("a command that is not there", 'FROM busybox\nRUN ["nothere"]\n'),
    Case("no such stage", "FROM busybox\nCOPY --from=7 /a /\n"),
    Case("no such target", "FROM busybox\nRUN true\n", query={"target": "none"}),
    Case("no such file", "FROM busybox\nCOPY nothere /\n"),
    Case("no such file in a stage", "FROM busybox AS s\nFROM busybox\nCOPY --from=s /nothere /\n"),
    Case("stages in a circle", "FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nCOPY --from=a /x /\n"),
    Case("a left out file", "FROM busybox\nCOPY a /\n", {**FILES, ".dockerignore": "a\n"}),
    Case("host's network", "FROM busybox\nRUN --network=host true\n"),
    Case("host's network that is allowed", "FROM busybox\nRUN --network=host false\n", query={"allow": "network.host"}),
    Case("a privileged step", "FROM busybox\nRUN --security=insecure true\n"),
    Case("a privileged step that its user allows", "FROM busybox\nRUN --security=insecure true\n", query={"allow": "security.insecure"}),
    Case("an unknown right", "FROM busybox\nRUN true\n", query={"allow": "everything"}),
    Case("unknown network", "FROM busybox\nRUN --network=other true\n"),
    Case("unknown mount type", "FROM busybox\nRUN --mount=type=other,target=/x true\n"),
    Case("unknown mount key", "FROM busybox\nRUN --mount=type=cache,other=/x true\n"),
    Case("mount without target", "FROM busybox\nRUN --mount=type=cache true\n"),
    Case("unknown owner", "FROM busybox\nCOPY --chown=nobodyknows a /\n"),
    Case("bad mode", "FROM busybox\nCOPY --chmod=xyz a /\n"),
    Case("a required secret", "FROM busybox\nRUN --mount=type=secret,id=s,required true\n"),
    Case("unknown user of a command", "FROM busybox\nUSER nobodyknows\nRUN true\n"),
    Case("no instruction before FROM", "RUN true\nFROM busybox\n"),
    Case("wrong variable", "FROM busybox\nENV A=${B:?missing}\n"),
    Case("an empty Dockerfile", "# nothing\n"),
    Case("bad base", "FROM Busy_Box!\n"),
    Case("heredoc without end", "FROM busybox\nCOPY <<E /x\ntext\n"),
]  # fmt: skip

DIFFERENT = {
    **dict.fromkeys(
        ("unknown owner", "unknown user", "owner with too many names", "a group nobody knows"),
        "dockerd lets root own what should be a user's whom nobody knows",
    ),
    "protocol": "the text of a later engine",
    "a signal too high": "a signal that there is not is refused",
    "bad mode": "the text of a later engine: dockerd 26 ignores it",
    **dict.fromkeys(("a syntax line", "syntax and comments"), "dockerd fetches the frontend from a registry"),
    "a privileged step": "the flag of a later engine",
    "from a stage": "a stage's name is known in any case",
    **dict.fromkeys(("missing in stage", "no such file in a stage"), "dockerd tells a path of its own"),
}

DIFFERENT_FILES = {
    "copy with chmod": "directories that are made get the mode, as from a later engine",
    "arguments in many forms": "an argument may be the value of the next one of its line, as from a later engine",
    "archives of all kinds": "what an archive holds gets the owner, as from a later engine",
}


class Side:
    """One of the two engines, asked by buildx. `age`: dockerd's major version, for both."""

    def __init__(self, name: str, socket: str, docker_program: str, folder: Path, age: int) -> None:
        self.name, self.socket, self.docker, self.folder, self.age = name, socket, docker_program, folder, age
        self.api = docker.APIClient(base_url=f"unix://{socket}", version="1.45", timeout=60)

    def build(self, case: Case, context: Path) -> tuple[int, str]:
        """Exit code, and the last error."""
        (context.parent / "Dockerfile").write_text(case.dockerfile)
        arguments = ["buildx", "build", "--progress=plain", "--no-cache", "-t", "case:x"]
        query = case.query
        if "target" in query:
            arguments += ["--target", query["target"]]
        if "buildargs" in query:
            arguments += ["--build-arg", query["buildargs"]]
        if "labels" in query:
            arguments += ["--label", query["labels"]]
        if "allow" in query:
            arguments += ["--allow", query["allow"]]
        done = subprocess.run(
            [self.docker, *arguments, "-f", str(context.parent / "Dockerfile"), str(context)],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.folder)},
        )
        said = re.findall(r"^ERROR: (.*(?:\n(?!\n).*)*)", done.stderr, re.MULTILINE)
        last = said[-1].strip() if said else ""
        for pattern, masked in _MASKED:
            last = worded(re.sub(pattern, masked, last))
        return done.returncode, last if done.returncode else ""

    def made(self) -> dict[str, Any]:
        """What there is to know of the image that was built."""
        inspected = self.api.inspect_image("case:x")
        history = self.api.history("case:x")
        return {
            "config": inspected["Config"],
            "history": [(self._told(step["CreatedBy"]), step["Comment"]) for step in history],
            "author": inspected["Author"],
            "layers": len(inspected["RootFS"].get("Layers") or ()),
            "files": self._files(),
        }

    def _told(self, created_by: str) -> str:
        """A step as the history has it; of ports and arguments, which later engines tell in another way, only that."""
        word = created_by.partition(" ")[0]
        return word if self.age < 28 and word in ("EXPOSE", "ARG") else created_by

    def _files(self) -> dict[str, tuple[object, ...]]:
        container = self.api.create_container("case:x", "true")["Id"]
        packed = b"".join(self.api.export(container))
        self.api.remove_container(container)
        with tarfile.open(fileobj=io.BytesIO(packed)) as opened:
            return {
                member.name: (
                    member.type,
                    oct(member.mode),
                    member.uid,
                    member.gid,
                    member.linkname,
                    opened.extractfile(member).read() if member.isreg() and member.size < 4096 else member.size,  # type: ignore[union-attr]  # it is one
                )
                for member in opened
                if member.name.split("/")[0] not in _OURS
                and not re.fullmatch("etc(/host.*|/resolv.conf|/mtab)?", member.name)
            }


def _differences(ours: object, theirs: object, place: str = "") -> list[str]:
    """Where two documents differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = sorted(ours.keys() | theirs.keys())
        return [each for name in names for each in _differences(ours.get(name), theirs.get(name), f"{place}/{name}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            each for n, two in enumerate(zip(ours, theirs, strict=True)) for each in _differences(*two, f"{place}/{n}")
        ]
    return [] if ours == theirs else [f"{place}: {ours!r} here, {theirs!r} there"]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """dockerd and moorage, each with busybox."""
    program, plugin = programs()
    folder = tmp_path_factory.mktemp("docker")
    (folder / "cli-plugins").mkdir()
    (folder / "cli-plugins" / "docker-buildx").symlink_to(plugin)
    try:
        with Dockerd() as dockerd, Instance() as moorage:
            if dockerd.version()[0] < 26:
                pytest.skip("dockerd's BuildKit is of another age here")
            moorage.load_busybox()
            age = dockerd.version()[0]
            both = (
                Side("dockerd", dockerd.socket, program, folder, age),
                Side("moorage", moorage.socket, program, folder, age),
            )
            with open(image.busybox(), "rb") as archive:
                both[0].api.load_image(archive.read())
            yield both
            for side in both:
                side.api.close()
    except Unavailable as reason:
        pytest.skip(str(reason))


def programs() -> tuple[str, str]:
    """The docker CLI and buildx."""
    found = shutil.which("docker"), shutil.which("docker-buildx")
    if found[0] is None or found[1] is None:
        pytest.skip("no docker buildx here")
    return found[0], found[1]


@pytest.mark.parametrize("case", [*GOOD, *GOOD_EDGES, *MORE, *BAD, *BAD_EDGES, *WRONG], ids=lambda case: case.name)
def test_the_same_is_built(sides: tuple[Side, Side], case: Case, tmp_path: Path) -> None:
    if sides[0].age > 26:
        pytest.skip("these are compared with dockerd 26: a later one differs in other ways")
    compare(sides, case, tmp_path)


@pytest.mark.parametrize("case", [*LATER, *LATER_BAD], ids=lambda case: case.name)
def test_the_same_is_built_by_a_later_engine(sides: tuple[Side, Side], case: Case, tmp_path: Path) -> None:
    if sides[0].age < 28:
        pytest.skip("dockerd's BuildKit does not know all that these say before 28")
    compare(sides, case, tmp_path)


def compare(sides: tuple[Side, Side], case: Case, tmp_path: Path) -> None:
    """Build a case with both."""
    contexts = []
    for side in sides:
        context = tmp_path / side.name / "context"
        context.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(tar(case.files or FILES))) as opened:
            opened.extraction_filter = staticmethod(lambda member, _: member)
            opened.extractall(context)
        contexts.append(context)
    with ThreadPoolExecutor(2) as pool:
        theirs, ours = pool.map(lambda side, context: side.build(case, context), sides, contexts)
        if case.name in DIFFERENT:
            assert theirs != ours, f"it differs no longer: {DIFFERENT[case.name]}"
            return
        assert ours == theirs
        if not theirs[0]:
            made_there, made_here = pool.map(lambda side: side.made(), sides)
            differences = _differences(made_here, made_there)
            if case.name in DIFFERENT_FILES:
                assert differences, f"it differs no longer: {DIFFERENT_FILES[case.name]}"
                return
            assert not differences

"""Dockerfiles executed with BuildKit's semantics, by an engine whose client is the test itself."""

import asyncio
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from service.content import layer_programs
from service.engine import build_files
from service.engine.engine import Engine
from service.engine.solving import NETWORK_HOST, CacheOption, Exporter, SolveFailed
from service.settings import Settings
from service.store import events
from tests.support.build_session import FolderSession, Outcome, build
from tests.support.instance import Instance

Built = Callable[..., Outcome]


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance() as made:
        made.load_busybox()
        yield made


@pytest.fixture(scope="module")
def engine(instance: Instance) -> Iterator[Engine]:
    """An engine of this process on the instance's store."""
    made = Engine(Settings(instance.environment))
    made.open()
    yield made
    layer_programs.end()
    build_files.PROGRAM.end()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """The loop that the engine belongs to."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def built(engine: Engine, runner: asyncio.Runner, tmp_path: Path) -> Built:
    """Build a Dockerfile with files beside it."""

    def run(dockerfile: str, files: "Mapping[str, str | bytes] | None" = None, **more: Any) -> Outcome:
        context = tmp_path / "context"
        context.mkdir(exist_ok=True)
        for name, content in (files or {}).items():
            path = context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        definition = tmp_path / "dockerfile"
        definition.mkdir(exist_ok=True)
        (definition / "Dockerfile").write_text(dockerfile)
        secrets = more.pop("secrets", None)
        session = FolderSession({"context": str(context), "dockerfile": str(definition)}, secrets)
        return runner.run(build(engine, session, **more))

    return run


def tree_of(built: Built, dockerfile: str, files: "Mapping[str, str | bytes] | None" = None, **more: Any) -> Any:
    """What is in the result but for busybox's own."""
    outcome = built(dockerfile, files, exporters=[Exporter("local")], **more)
    own = ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "var")
    return {path: entry[1] for path, entry in outcome.session.sent[0].items() if path.split("/")[0] not in own}


def test_a_stage_knows_the_arguments_of_the_one_it_begins_with(built: Built) -> None:
    dockerfile = (
        "FROM busybox AS a\nARG G=1\nFROM a AS b\nARG C=c-$G\nFROM b\nRUN echo $G $C >/f\nENV E=$C\n"
        "FROM busybox\nCOPY --from=2 /f /f\nRUN echo none$G >/g\n"
    )
    found = tree_of(built, dockerfile)
    assert (found["f"], found["g"]) == (b"1 c-1\n", b"none\n")
    outcome = built(dockerfile, attributes={"target": "2"})
    assert [entry["created_by"] for entry in json.loads(outcome.config)["history"]][-2:] == [
        "RUN |2 G=1 C=c-1 /bin/sh -c echo $G $C >/f # buildkit",
        "ENV E=c-1",
    ]


def test_steps_make_an_image(built: Built, instance: Instance) -> None:
    outcome = built(
        "FROM busybox\nARG X=1\nENV A=b\nWORKDIR /w\nRUN echo $X-$A >f\nCOPY a /a\nCMD echo hi\n",
        {"a": "one"},
        exporters=[Exporter("moby", {"name": "made:by-steps"})],
    )
    config = json.loads(outcome.config)
    assert [entry["created_by"] for entry in config["history"][1:]] == [
        "ARG X=1",
        "ENV A=b",
        "WORKDIR /w",
        "RUN |1 X=1 /bin/sh -c echo $X-$A >f # buildkit",
        "COPY a /a # buildkit",
        'CMD ["/bin/sh" "-c" "echo hi"]',
    ]
    assert len(config["rootfs"]["diff_ids"]) == 4
    assert instance.docker("run", "--rm", "made:by-steps", "cat", "/w/f", "/a").stdout == "1-b\none"
    assert outcome.response["image.name"] == "docker.io/library/made:by-steps"
    again = built("FROM busybox\nARG X=1\nENV A=b\nWORKDIR /w\nRUN echo $X-$A >f\nCOPY a /a\nCMD echo hi\n")
    assert all(again.told.cached().values())
    assert again.image == outcome.image
    assert instance.docker("ps", "-aq").stdout == ""


def test_only_what_is_needed_is_built_and_stages_share_files(built: Built) -> None:
    outcome = built(
        "FROM busybox AS one\nRUN echo 1 >/f\n"
        "FROM busybox AS unused\nRUN false\n"
        "FROM scratch AS two\nCOPY --from=one /f /g\n"
        "FROM two\nCOPY --from=0 /f /h\nCOPY --from=busybox /bin/true /t/\n",
        exporters=[Exporter("local")],
    )
    files = {path: entry[1] for path, entry in outcome.session.sent[0].items()}
    assert (files["g"], files["h"]) == (b"1\n", b"1\n")
    assert set(files) == {"g", "h", "t", "t/true"}
    assert not any("unused" in name for name in outcome.told.cached())
    chosen = built("FROM busybox AS one\nRUN echo 1 >/f\nFROM one\nRUN false\n", attributes={"target": "one"})
    assert len(json.loads(chosen.config)["rootfs"]["diff_ids"]) == 2


def test_a_changed_file_changes_only_what_stands_on_it(built: Built) -> None:
    dockerfile = "FROM busybox\nCOPY a /\nRUN cat /a\nCOPY b /\nRUN cat /b\n"
    built(dockerfile, {"a": "cached a", "b": "cached b"})
    after = built(dockerfile, {"b": "another b"})
    assert list(after.told.cached().values()) == [True, True, False, False]
    touched = built(dockerfile, {"b": "another b"})
    assert all(touched.told.cached().values())
    assert not any(built(dockerfile, attributes={"no-cache": ""}).told.cached().values())


def test_the_same_result_of_a_step_that_was_done_again_changes_nothing(built: Built) -> None:
    first = "FROM busybox AS one\nRUN echo {} >/dev/null; echo same >/f; touch -d '2020-01-01 00:00:00' /f\n"
    rest = "FROM busybox\nCOPY --from=one /f /\nRUN cat /f\n"
    built(first.format(1) + rest)
    again = built(first.format(2) + rest)
    assert again.told.cached("stage-1") == {
        "[stage-1 2/3] COPY --from=one /f /": True,
        "[stage-1 3/3] RUN cat /f": True,
    }


def test_mounts_of_a_command(built: Built) -> None:
    outcome = built(
        "FROM busybox AS other\nRUN echo other >/o\n"
        "FROM busybox\n"
        "RUN --mount=type=bind,target=/ctx cat /ctx/a; ! touch /ctx/b 2>/dev/null\n"
        "RUN --mount=type=bind,target=/ctx,rw touch /ctx/b && ls /ctx/b\n"
        "RUN --mount=from=other,source=/o,target=/mnt/o cat /mnt/o\n"
        "RUN --mount=type=tmpfs,target=/t,size=1m mount | grep ' /t ' | grep -c size=1024k\n"
        "RUN --mount=type=cache,target=/c echo kept >/c/k\n"
        "RUN --mount=type=cache,target=/c cat /c/k\n"
        "RUN ls / >/listed\n",
        {"a": "from the context\n"},
    )
    assert outcome.told.output == "from the context\n/ctx/b\nother\n1\nkept\n"
    files = tree_of(
        built, "FROM busybox\nRUN --mount=type=cache,target=/x/y true\nRUN --mount=type=tmpfs,target=/z true\n"
    )
    assert files == {}


def test_secrets_are_nowhere_but_where_they_are_asked_for(built: Built, engine: Engine, instance: Instance) -> None:
    outcome = built(
        "FROM busybox\n"
        "RUN --mount=type=secret,id=s cat /run/secrets/s | wc -c; stat -c %a /run/secrets/s\n"
        "RUN --mount=type=secret,id=s,target=/else,mode=0444,uid=7 stat -c '%a %u' /else\n"
        "RUN --mount=type=secret,id=s,env=S echo ${#S}\n"
        "RUN --mount=type=secret,id=none ls /run/secrets 2>&1 | wc -l\n",
        secrets={"s": b"geheim-geheim"},
    )
    assert outcome.told.output == "13\n400\n444 7\n13\n1\n"
    # another process looks: who closes a database's file loses the locks that SQLite has on it
    looked = subprocess.run(
        ["grep", "-r", "-l", "-a", "--devices=skip", "geheim-geheim", instance.folder],
        check=False,
        capture_output=True,
        text=True,
    )
    assert looked.stdout == ""
    assert not os.listdir(engine.settings.run + "/builds")
    with pytest.raises(SolveFailed, match="secret none: not found"):
        built("FROM busybox\nRUN --mount=type=secret,id=none,required true\n")


def test_nobody_is_told_of_the_containers_of_steps(built: Built, engine: Engine) -> None:
    before = events.last(engine.store)
    built("FROM busybox\nRUN echo of a step that nobody sees\n")
    told = [(event["Type"], event["Action"]) for event in events.after(engine.store, before)]
    assert told == [("image", "create")]


def test_heredocs(built: Built) -> None:
    files = tree_of(
        built,
        "FROM busybox\nARG X=x\nCOPY <<EOF <<'RAW' /d/\n$X\nEOF\n$X\nRAW\n"
        "RUN <<EOF\necho one >/one\necho two >/two\nEOF\n"
        "RUN <<EOF\n#!/bin/cat\nnothing\nEOF\n",
    )
    assert files == {"d": b"", "d/EOF": b"x\n", "d/RAW": b"$X\n", "one": b"one\n", "two": b"two\n"}


def test_what_is_copied(built: Built) -> None:
    files = {"d/a.txt": "a", "d/b.md": "b", "d/sub/c.txt": "c", "e": "e", ".dockerignore": "ignored\n", "ignored": "i"}
    assert set(tree_of(built, "FROM busybox\nCOPY --exclude=*.md d /x\n", files)) == {
        "x", "x/a.txt", "x/sub", "x/sub/c.txt",
    }  # fmt: skip
    assert set(tree_of(built, "FROM busybox\nCOPY --parents d/sub/c.txt e /x/\n")) == {
        "x", "x/d", "x/d/sub", "x/d/sub/c.txt", "x/e",
    }  # fmt: skip
    outcome = built("FROM busybox\nCOPY --chown=1:2 --chmod=0710 e /\nRUN stat -c '%u %g %a' /e\n")
    assert outcome.told.output == "1 2 710\n"
    with pytest.raises(SolveFailed) as caught:
        built("FROM busybox\nCOPY ignored /\n")
    assert caught.value.message.startswith("failed to compute cache key: failed to calculate checksum of ref ")
    assert caught.value.message.endswith(': "/ignored": not found')
    assert [(each.start, each.end) for each in caught.value.ranges] == [(2, 2)]


@pytest.mark.parametrize(
    ("dockerfile", "message", "lines"),
    [
        (
            "FROM busybox\nRUN exit 3\n",
            'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3',
            (2, 2),
        ),
        (
            "FROM busybox\nFOO bar\n",
            "dockerfile parse error on line 2: unknown instruction: FOO (did you mean FROM?)",
            (2, 2),
        ),
        ("FROM busybox\nCOPY --from=5 /a /\n", "invalid stage index 5", None),
        (
            "FROM busybox\nRUN --network=host true\n",
            "failed to load LLB: network.host is not allowed",
            (2, 2),
        ),
    ],
)
def test_what_cannot_be_built(built: Built, dockerfile: str, message: str, lines: "tuple[int, int] | None") -> None:
    with pytest.raises(SolveFailed) as caught:
        built(dockerfile)
    assert caught.value.message == message
    assert [(each.start, each.end) for each in caught.value.ranges] == ([lines] if lines else [])


def test_entitled_to_the_network_of_the_machine(built: Built) -> None:
    dockerfile = "FROM busybox\nRUN --network=host readlink /proc/self/ns/net\nRUN --network=none ls /sys/class/net\n"
    outcome = built(dockerfile, entitlements=[NETWORK_HOST])
    assert outcome.told.output.split() == [os.readlink("/proc/self/ns/net"), "lo"]


def test_outputs(built: Built) -> None:
    dockerfile = "FROM scratch\nCOPY a /d/\n"
    outcome = built(
        dockerfile, {"a": "one"}, exporters=[Exporter("tar", number=0), Exporter("oci", {"name": "x"}, number=1)]
    )
    with tarfile.open(fileobj=io.BytesIO(outcome.session.sent[0])) as tar:
        assert sorted(tar.getnames()) == ["d", "d/a"]
    with tarfile.open(fileobj=io.BytesIO(outcome.session.sent[1])) as tar:
        assert {"index.json", "manifest.json", "oci-layout"} <= set(tar.getnames())


def test_builds_at_the_same_time_do_a_step_once(engine: Engine, runner: asyncio.Runner, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo once; head -c 9 /dev/urandom >/r\n")

    async def both() -> list[Outcome]:
        sessions = [FolderSession({"context": str(tmp_path), "dockerfile": str(tmp_path)}) for _ in range(3)]
        return await asyncio.gather(*(build(engine, session) for session in sessions))

    outcomes = runner.run(both())
    assert len({outcome.image for outcome in outcomes}) == 1
    assert "".join(outcome.told.output for outcome in outcomes) == "once\n"


def test_nothing_is_left_of_a_build_that_is_given_up(
    engine: Engine, runner: asyncio.Runner, tmp_path: Path, instance: Instance
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo begun; sleep 1000\n")

    async def given_up() -> None:
        session = FolderSession({"context": str(tmp_path), "dockerfile": str(tmp_path)})
        task = asyncio.ensure_future(build(engine, session))
        try:
            for _ in range(600):
                if any(os.listdir(engine.settings.root + "/containers")):
                    break
                await asyncio.sleep(0.1)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    runner.run(given_up())
    assert os.listdir(engine.settings.root + "/containers") == []
    assert os.listdir(engine.settings.run + "/containers") == []
    assert os.listdir(engine.settings.root + "/tmp") == []
    assert instance.docker("ps", "-aq").stdout == ""


def test_an_image_brings_its_cache_along(built: Built, instance: Instance) -> None:
    dockerfile = "FROM busybox\nRUN head -c 9 /dev/urandom >/drawn\nCOPY a /\n"
    first = built(
        dockerfile, {"a": "of a cache"}, exporters=[Exporter("moby", {"name": "with:cache"}, inline_cache=True)]
    )
    instance.docker("builder", "prune", "-af")
    assert not any(built(dockerfile).told.cached().values())
    instance.docker("builder", "prune", "-af")
    again = built(dockerfile, cache_imports=[CacheOption("registry", {"ref": "with:cache"})])
    assert all(again.told.cached().values())
    assert json.loads(again.config)["rootfs"] == json.loads(first.config)["rootfs"]
    built("FROM busybox\nRUN true\n", cache_imports=[CacheOption("registry", {"ref": "127.0.0.1:1/none"})])
    with pytest.raises(SolveFailed, match="unsupported cache import type s3"):
        built("FROM busybox\n", cache_imports=[CacheOption("s3")])

"""logs: what a container wrote, by raw sockets, the real CLI and docker-py."""

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from docker import DockerClient

from tests.support.instance import Instance
from tests.support.streams import VERSION, call, create, everything, frames, of_stream, remove, run, start, wait
from tests.support.wire import Wire, request

BOTH = "stdout=1&stderr=1"


@pytest.fixture(scope="module")
def five(moorage: Instance) -> Iterator[str]:
    """An ended container that wrote five lines to stdout, a second apart by its third, and one to stderr."""
    script = "echo 1; echo 2; echo e >&2; sleep 0.3; echo 3; echo 4; printf 5"
    container = run(moorage, "sh", "-c", script)
    wait(moorage, container)
    yield container
    remove(moorage, container)


def logs(moorage: Instance, container: str, query: str = BOTH) -> bytes:
    """The body of an answer, its chunks joined."""
    answer = call(moorage, f"GET /containers/{container}/logs?{query}")
    assert answer.status == 200, answer.body
    return answer.body


def follow(moorage: Instance, container: str, query: str = "") -> Wire:
    """A followed log; `chunk` reads it."""
    wire = Wire(moorage.socket, 30)
    wire.send(request(f"GET {VERSION}/containers/{container}/logs?follow=1&{BOTH}{query}"))
    assert wire.head().status == 200
    return wire


def chunk(wire: Wire) -> bytes:
    """The next chunk; empty at the end."""
    size = int(wire.until(b"\r\n"), 16)
    data = wire.exactly(size)
    assert wire.exactly(2) == b"\r\n"
    return data


def followed(wire: Wire) -> bytes:
    """All that is left to come."""
    pieces = []
    while data := chunk(wire):
        pieces.append(data)
    return b"".join(pieces)


def test_streams(moorage: Instance, five: str) -> None:
    assert of_stream(logs(moorage, five), 1) == b"1\n2\n3\n4\n5"
    assert of_stream(logs(moorage, five), 2) == b"e\n"
    assert frames(logs(moorage, five, "stderr=1")) == [(2, b"e\n")]
    assert [data for _, data in frames(logs(moorage, five, "stdout=1"))] == [b"1\n", b"2\n", b"3\n", b"4\n", b"5"]


@pytest.mark.parametrize(("version", "kind"), [("/v1.51", "multiplexed"), ("/v1.42", "multiplexed"), ("/v1.41", "raw")])
def test_content_type(moorage: Instance, five: str, version: str, kind: str) -> None:
    with Wire(moorage.socket) as wire:
        wire.send(request(f"GET {version}/containers/{five}/logs?{BOTH}"))
        assert wire.head().headers["content-type"] == f"application/vnd.docker.{kind}-stream"


def test_a_terminal_is_raw(moorage: Instance, containers: list[str]) -> None:
    containers.append(run(moorage, "sh", "-c", "echo out; echo err >&2", Tty=True))
    wait(moorage, containers[0])
    answer = call(moorage, f"GET /containers/{containers[0]}/logs?{BOTH}")
    assert answer.headers["content-type"] == "application/vnd.docker.raw-stream"
    assert answer.body == b"out\r\nerr\r\n"


@pytest.mark.parametrize(
    ("tail", "lines"),
    [("0", []), ("1", [b"5"]), ("3", [b"3\n", b"4\n", b"5"]), ("99", None), ("all", None), ("x", None), ("-1", None)],
)
def test_tail(moorage: Instance, five: str, tail: str, lines: list[bytes] | None) -> None:
    said = [data for _, data in frames(logs(moorage, five, f"stdout=1&tail={tail}"))]
    assert said == ([b"1\n", b"2\n", b"3\n", b"4\n", b"5"] if lines is None else lines)


def test_timestamps_since_and_until(moorage: Instance, five: str) -> None:
    lines = [data for _, data in frames(logs(moorage, five, "stdout=1&timestamps=1"))]
    stamps = [line.split(b" ")[0].decode() for line in lines]
    assert all(len(stamp) == 30 and stamp.endswith("Z") for stamp in stamps)
    assert stamps == sorted(stamps)
    from service.timestamps import nanoseconds

    third = nanoseconds(stamps[2])
    text = f"{third // 10**9}.{third % 10**9:09d}"
    assert of_stream(logs(moorage, five, f"stdout=1&since={text}"), 1) == b"3\n4\n5"
    before = third - 1
    text = f"{before // 10**9}.{before % 10**9:09d}"
    assert of_stream(logs(moorage, five, f"stdout=1&until={text}"), 1) == b"1\n2\n"
    assert logs(moorage, five, "stdout=1&since=9999999999") == b""


def test_details(moorage: Instance, containers: list[str]) -> None:
    config: dict[str, Any] = {"Labels": {"one": "a b", "two": "x"}, "Env": ["E=v"]}
    options = {"Type": "json-file", "Config": {"labels": "one,none", "env": "E"}}
    containers.append(run(moorage, "echo", "hi", **config, HostConfig={"LogConfig": options}))
    wait(moorage, containers[0])
    assert of_stream(logs(moorage, containers[0], "stdout=1&details=1"), 1) == b"E=v,one=a+b hi\n"


def test_long_lines_come_in_pieces_of_16_kib(moorage: Instance, containers: list[str]) -> None:
    script = "head -c 40000 /dev/zero | tr '\\0' x; echo; head -c 16384 /dev/zero | tr '\\0' y; echo; echo end"
    containers.append(run(moorage, "sh", "-c", script))
    wait(moorage, containers[0])
    said = [data for _, data in frames(logs(moorage, containers[0]))]
    assert b"".join(said) == b"x" * 40000 + b"\n" + b"y" * 16384 + b"\nend\n"
    assert [len(data) for data in said[:3]] == [16384, 16384, 7233]
    assert max(len(data) for data in said) <= 16385


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, "Bad parameters: you must choose at least one stream"),
        ("stdout=1&since=abc", 400, 'strconv.ParseInt: parsing "abc": invalid syntax'),
        ("stdout=1&since=9" + 19 * "0", 400, f'strconv.ParseInt: parsing "9{19 * "0"}": value out of range'),
        ("stdout=1&until=1.x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ],
)
def test_bad_parameters(moorage: Instance, five: str, query: str, status: int, text: str) -> None:
    answer = call(moorage, f"GET /containers/{five}/logs?{query}")
    assert (answer.status, answer.json["message"]) == (status, text)


def test_unknown_container(moorage: Instance) -> None:
    answer = call(moorage, f"GET /containers/nosuch/logs?{BOTH}")
    assert (answer.status, answer.json["message"]) == (404, "No such container: nosuch")


def test_driver_none(moorage: Instance, containers: list[str]) -> None:
    containers.append(run(moorage, "echo", "x", HostConfig={"LogConfig": {"Type": "none"}}))
    answer = call(moorage, f"GET /containers/{containers[0]}/logs?{BOTH}")
    assert (answer.status, answer.json["message"]) == (501, "configured logging driver does not support reading")


def test_a_container_that_never_ran(moorage: Instance, containers: list[str]) -> None:
    containers.append(create(moorage, "true"))
    assert logs(moorage, containers[0]) == b""
    with follow(moorage, containers[0]) as wire:
        assert followed(wire) == b""


def test_follow_while_written(moorage: Instance, containers: list[str]) -> None:
    containers.append(run(moorage, "sh", "-c", "echo first; while read line; do echo $line; done", OpenStdin=True))
    container = containers[0]
    attached = moorage.docker_popen("attach", container)
    assert attached.stdin
    with follow(moorage, container) as wire:
        assert chunk(wire)[8:] == b"first\n"
        for number in range(20):
            attached.stdin.write(b"line %d\n" % number)
            attached.stdin.flush()
            begin = time.monotonic()
            assert chunk(wire)[8:] == b"line %d\n" % number
            assert time.monotonic() - begin < 60
        assert call(moorage, f"POST /containers/{container}/kill").status == 204
        assert followed(wire) == b""
    attached.communicate(timeout=60)


def test_follow_loses_nothing_at_the_end(moorage: Instance, containers: list[str]) -> None:
    expected = "".join(f"{n}\n" for n in range(1, 50001)).encode()
    for _ in range(3):
        container = create(moorage, "sh", "-c", "sleep 0.1; seq 1 50000; printf tail")
        containers.append(container)
        start(moorage, container)
        with follow(moorage, container) as wire:
            assert of_stream(followed(wire), 1) == expected + b"tail"


def test_follow_with_tail_and_until(moorage: Instance, containers: list[str]) -> None:
    waits = "until [ -e /go ]; do sleep 0.1; done"
    containers.append(run(moorage, "sh", "-c", f"seq 1 10; {waits}; echo later; sleep 1000"))
    moorage.until(lambda: "10" in moorage.docker("logs", containers[0]).stdout.split(), 60, "it says nothing")
    end = time.time() + 1.5
    with follow(moorage, containers[0], f"&tail=2&until={end:.9f}") as wire:
        assert of_stream(followed(wire), 1) == b"9\n10\n"
    assert time.time() >= end, "it was left before"
    moorage.docker("exec", containers[0], "touch", "/go")
    moorage.until(lambda: "later" in moorage.docker("logs", containers[0]).stdout, 60, "it does not go on")
    with follow(moorage, containers[0], f"&tail=2&until={end:.9f}") as wire:
        assert b"later" not in of_stream(followed(wire), 1)


def test_follow_ends_at_a_restart(moorage: Instance, containers: list[str]) -> None:
    containers.append(run(moorage, "sh", "-c", "echo up; sleep 1000"))
    with follow(moorage, containers[0]) as wire:
        assert chunk(wire)[8:] == b"up\n"
        assert call(moorage, f"POST /containers/{containers[0]}/restart?t=0").status == 204
        assert followed(wire) in (b"", b"\x01\0\0\0\0\0\0\x03up\n")
    moorage.until(lambda: of_stream(logs(moorage, containers[0]), 1) == b"up\nup\n", 30, "no second line")


def test_a_slow_follower_costs_no_memory(moorage: Instance, containers: list[str]) -> None:
    """100 MB of log, nobody reads: the service neither grows nor holds the container up."""
    containers.append(run(moorage, "sh", "-c", "head -c 75000000 /dev/zero | tr '\\0' x | fold -w 100"))
    with follow(moorage, containers[0]) as wire:
        assert wait(moorage, containers[0]) == 0
        pid = moorage.service_pid()
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
        assert peak < 100_000, f"{peak} kB"
        raw = everything(wire)
        assert raw.endswith(b"0\r\n\r\n")
        assert raw.count(b"x") >= 75_000_000


def test_the_same_from_a_later_process(moorage: Instance, containers: list[str]) -> None:
    containers.append(run(moorage, "sh", "-c", "echo one; sleep 0.5; echo two; sleep 0.7; echo three; exit 3"))
    moorage.until(lambda: b"one" in logs(moorage, containers[0]), 60, "nothing was written")
    moorage.kill_service()
    assert b"one" in logs(moorage, containers[0])
    moorage.kill_service()
    with follow(moorage, containers[0]) as wire:
        assert of_stream(followed(wire), 1) == b"one\ntwo\nthree\n"
    whole = logs(moorage, containers[0], f"{BOTH}&timestamps=1")
    moorage.kill_service()
    assert logs(moorage, containers[0], f"{BOTH}&timestamps=1") == whole
    assert wait(moorage, containers[0]) == 3


def test_the_cli(moorage: Instance, five: str) -> None:
    done = moorage.docker("logs", five)
    assert (done.stdout, done.stderr) == ("1\n2\n3\n4\n5", "e\n")
    assert moorage.docker("logs", "--tail", "2", five).stdout == "4\n5"
    assert moorage.docker("logs", "--since", "1h", "-f", five).stdout == "1\n2\n3\n4\n5"
    assert moorage.docker("logs", "--until", "1h", five).stdout == ""


def test_the_cli_follows(moorage: Instance, containers: list[str]) -> None:
    containers.append(run(moorage, "sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.2; done"))
    said = subprocess.run(
        ["docker", "logs", "-f", containers[0]],
        env=moorage.client_environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert said.stdout == b"1\n2\n3\n"


def test_docker_py(moorage: Instance, five: str) -> None:
    found = moorage.client().containers.get(five)
    assert found.logs(stderr=False) == b"1\n2\n3\n4\n5"
    assert list(found.logs(stderr=False, stream=True)) == [b"1\n", b"2\n", b"3\n", b"4\n", b"5"]
    assert found.logs(stdout=False, tail=1) == b""
    assert found.logs(tail=2) == b"4\n5"


def test_a_short_program_has_spoken_when_it_is_asked_at_once(moorage: Instance, client: DockerClient) -> None:
    """dockerd's start takes longer than such a program, and scripts are used to find what it has written."""
    said = []
    for _ in range(10):
        made = client.containers.create("busybox", ["sh", "-c", "usleep 15000; echo here"])
        made.start()
        said.append(made.logs())
        made.remove(force=True)
    assert b"here\n" in said  # every time, where nobody else needs the processor

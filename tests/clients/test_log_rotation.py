"""Rotation: what a container writes stays whole over the parts of its log, however fast it writes and whoever reads."""

import os
from typing import Any

from service.runtime import log_parts
from service.runtime.log_rotation import Rotation
from service.settings import Settings
from tests.support.instance import Instance
from tests.support.streams import call, create, of_stream, run, start, wait
from tests.support.wire import Wire, request

BOTH = "stdout=1&stderr=1"


def limited(driver: str = "json-file", **options: str) -> dict[str, Any]:
    """HostConfig with such limits; a name's underscore is an option's dash."""
    return {"LogConfig": {"Type": driver, "Config": {name.replace("_", "-"): text for name, text in options.items()}}}


def logs(moorage: Instance, container: str, query: str = BOTH) -> bytes:
    answer = call(moorage, f"GET /containers/{container}/logs?{query}")
    assert answer.status == 200, answer.body
    return of_stream(answer.body, 1)


def parts(moorage: Instance, container: str) -> list[log_parts.Part]:
    return log_parts.listed(f"{moorage.root}/containers/{container}/ctr.log")


# A burst that is too much for every limit here, then the rest in bursts, once the first was seen to be rotated.
_BURSTS = (
    "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo $i; [ $((i % 500)) = 0 ] && usleep 10000; {wait}; done; {then}"
)


def writer(moorage: Instance, containers: list[str], lines: int, then: str, **options: str) -> str:
    """A started container that writes so many lines and then does something; its keeper is at work."""
    wait_here = "[ $i = 1000 ] && until [ -e /go ]; do usleep 10000; done"
    script = _BURSTS.format(lines=lines, wait=wait_here, then=then)
    container = create(moorage, "sh", "-c", script, HostConfig=limited(**options))
    containers.append(container)
    start(moorage, container)
    moorage.until(lambda: parts(moorage, container), 60, "nothing was rotated")
    moorage.docker("exec", container, "touch", "/go")
    return container


def numbers(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, last + 1))


def test_parts_are_kept_and_read_as_one(moorage: Instance, containers: list[str]) -> None:
    container = writer(moorage, containers, 20000, "true", max_size="20k", max_file="1000")
    assert wait(moorage, container) == 0
    assert logs(moorage, container) == numbers(1, 20000)
    for count in (0, 1, 10, 3000, 15000, 19800):
        assert logs(moorage, container, f"{BOTH}&tail={count}") == numbers(20001 - count, 20000)
    assert moorage.docker("logs", "--tail", "12000", container).stdout == numbers(8001, 20000).decode()


def test_max_file_and_compress(moorage: Instance, containers: list[str]) -> None:
    container = writer(moorage, containers, 10000, "sleep 1000", max_size="10k", max_file="3", compress="true")
    moorage.until(lambda: logs(moorage, container).endswith(b"\n10000\n"), 60, "it did not write")
    moorage.until(
        lambda: [part.packed for part in parts(moorage, container)] == [True, True], 10, "two are not compressed"
    )
    said = logs(moorage, container)
    first = int(said.split()[0])
    assert said == numbers(first, 10000)  # a whole end of what was written
    assert logs(moorage, container, f"{BOTH}&tail={9990 - first}") == numbers(first + 11, 10000)
    folder = f"{moorage.root}/containers/{container}"
    assert not [name for name in os.listdir(folder) if name.endswith(".gz.tmp")]


def test_one_file_keeps_its_size_and_the_last_lines(moorage: Instance, containers: list[str]) -> None:
    container = writer(moorage, containers, 20000, "sleep 1000", max_size="40k")
    moorage.until(lambda: logs(moorage, container).endswith(b"\n20000\n"), 60, "it did not write")
    moorage.until(lambda: len(parts(moorage, container)) == 1, 60, "not one earlier part is left")
    said = logs(moorage, container)
    first = int(said.split()[0])
    assert 1 < first < 20000
    assert said == numbers(first, 20000)


def test_it_goes_on_while_the_service_sleeps(moorage: Instance, containers: list[str]) -> None:
    container = writer(moorage, containers, 10**9, "true", max_size="10k", max_file="3")
    moorage.kill_service()
    seen = parts(moorage, container)[-1].number
    moorage.until(lambda: parts(moorage, container)[-1].number > seen + 3, 60, "nothing was rotated any more")
    assert moorage.service_pid() is None
    assert len(parts(moorage, container)) <= 3  # one of them may just be beginning
    assert logs(moorage, container)


def test_a_follower_loses_nothing(moorage: Instance, containers: list[str]) -> None:
    """It reads nothing for a while, then everything: the parts it has not read yet are still there for it."""
    container = writer(moorage, containers, 30000, "printf end", max_size="20k", max_file="200")
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(f"GET /v1.51/containers/{container}/logs?follow=1&{BOTH}"))
        assert wire.head().status == 200
        assert wait(moorage, container) == 0
        body = followed(wire)
    assert of_stream(body, 1) == numbers(1, 30000) + b"end"


def test_attach_with_logs_reads_all_parts(moorage: Instance, containers: list[str]) -> None:
    container = writer(moorage, containers, 5000, "true", max_size="10k", max_file="100")
    assert wait(moorage, container) == 0
    answer = call(moorage, f"POST /containers/{container}/attach?logs=1&stdout=1&stderr=1")
    assert of_stream(answer.body, 1) == numbers(1, 5000)


def test_a_rotation_cut_off_anywhere_goes_on(moorage: Instance, containers: list[str]) -> None:
    """Each step by a rotation that knows nothing of the ones before: as if the keeper were killed after every one."""
    script = "echo begin; while read line; do echo $line; done"
    container = run(moorage, "sh", "-c", script, OpenStdin=True)  # the keeper is not to help
    containers.append(container)
    limits = log_parts.Limits(1000, 100, compress=False)
    settings = Settings(moorage.environment)
    log = settings.container_log(container)
    attached = moorage.docker_popen("attach", container)
    stdin = attached.stdin
    assert stdin
    written = 0

    def write(lines: int) -> None:
        nonlocal written
        for _ in range(lines):
            written += 1
            stdin.write(b"line %d\n" % written)
        stdin.flush()
        moorage.until(lambda: logs(moorage, container, f"{BOTH}&tail=1") == b"line %d\n" % written, 60, "not written")

    def begun() -> bool:
        listed = parts(moorage, container)
        return bool(listed) and os.stat(listed[-1].path).st_ino == os.stat(log).st_ino

    write(30)
    # killed when the next file was made, and when the part had its name, before conmon was asked
    one = Rotation(settings, container, limits)
    open(log + ".tmp", "wb").close()
    one._begin(1)
    write(5)
    assert begun()
    another = Rotation(settings, container, limits)
    another.look()
    assert begun()  # it waits a while, for all it knows conmon is just about to do it
    another._asked -= 60
    another.look()
    moorage.until(lambda: not begun(), 60, "conmon did not go on in a new file")
    write(30)
    # killed right after conmon was asked
    Rotation(settings, container, limits).look()
    Rotation(settings, container, limits).look()
    Rotation(settings, container, limits).look()
    moorage.until(lambda: not begun(), 60, "conmon did not go on in a new file")
    write(30)
    # the container ends while a rotation is under way, and is started again
    one._begin(3)
    assert call(moorage, f"POST /containers/{container}/kill").status == 204
    attached.communicate(timeout=60)
    start(moorage, container)
    moorage.until(lambda: logs(moorage, container).count(b"begin") == 2, 60, "not started again")
    last = Rotation(settings, container, limits)
    last.look()
    last._asked -= 60
    last.look()
    moorage.until(lambda: not begun(), 60, "conmon did not go on in a new file")
    assert len(parts(moorage, container)) == 3
    expected = ["begin", *(f"line {number}" for number in range(1, written + 1)), "begin"]
    assert logs(moorage, container).decode().splitlines() == expected


def followed(wire: Wire) -> bytes:
    """The body of a chunked answer, to its end."""
    pieces = []
    while size := int(wire.until(b"\r\n"), 16):
        pieces.append(wire.exactly(size))
        assert wire.exactly(2) == b"\r\n"
    return b"".join(pieces)

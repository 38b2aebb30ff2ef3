"""top: the host's ps, for the processes of one container."""

from collections.abc import Iterator

import pytest

from service.engine.top import parse
from service.errors import SystemFailure
from tests.support.instance import Instance
from tests.support.streams import call, create, inspect, remove, run


@pytest.fixture(scope="module")
def container(moorage: Instance) -> Iterator[str]:
    made = run(moorage, "sh", "-c", "sleep 1000 & sleep 2000")
    moorage.until(
        lambda: (
            sorted(row[-1] for row in call(moorage, f"GET /containers/{made}/top").json["Processes"])
            == ["sleep 1000", "sleep 2000"]  # and no shell that is about to become one of them
        ),
        60,
        "the shell did not start both",
    )
    yield made
    remove(moorage, made)


def test_default(moorage: Instance, container: str) -> None:
    said = call(moorage, f"GET /containers/{container}/top").json
    assert said["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert sorted(row[-1] for row in said["Processes"]) == ["sleep 1000", "sleep 2000"]  # the shell became the last one
    assert str(inspect(moorage, container)["State"]["Pid"]) in [row[1] for row in said["Processes"]]


def test_arguments(moorage: Instance, container: str) -> None:
    said = call(moorage, f"GET /containers/{container}/top?ps_args=aux").json
    assert said["Titles"][:3] == ["USER", "PID", "%CPU"]
    assert len(said["Processes"]) == 2
    said = call(moorage, f"GET /containers/{container}/top?ps_args=-o%20pid%2Ccomm").json
    assert said["Titles"] == ["PID", "COMMAND"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("-o%20comm", "Couldn't find PID field in ps output"),
        ("-o%20x%3DPID", 'specifying "x=PID" is not allowed'),
        ("-o%20%20user%3D%20PID", 'specifying "user=PID" is not allowed'),
        ("-o%20pid%3DPID,x%3DPID", 'specifying "pid=PID,x=PID" is not allowed'),
        ("-eo%20pid%3DPIDX", "Couldn't find PID field in ps output"),
        ("-o%20pid%20--no-headers", "Couldn't find PID field in ps output"),
        ("%20", "ps: error: garbage option"),
        ("-o%20pid%00", "ps: fork/exec /usr/bin/ps: invalid argument"),
        ("--nope", "ps: error: unknown gnu long option"),
    ],
)
def test_bad_arguments(moorage: Instance, container: str, arguments: str, text: str) -> None:
    answer = call(moorage, f"GET /containers/{container}/top?ps_args={arguments}")
    assert (answer.status, answer.json["message"]) == (500, text)


def test_a_selection_without_the_containers_processes_is_null(moorage: Instance, container: str) -> None:
    assert call(moorage, f"GET /containers/{container}/top?ps_args=-fp%201").json["Processes"] is None


def test_paused(moorage: Instance, container: str) -> None:
    moorage.docker("pause", container)
    try:
        assert len(call(moorage, f"GET /containers/{container}/top").json["Processes"]) == 2
    finally:
        moorage.docker("unpause", container)


def test_restarting(moorage: Instance) -> None:
    made = moorage.docker("run", "-d", "--restart", "always", "busybox", "false").stdout.strip()
    sentence = f"Container {made} is restarting, wait until the container is running"
    moorage.until(
        lambda: call(moorage, f"GET /containers/{made}/top").json.get("message") == sentence, 15, "never restarting"
    )
    remove(moorage, made)


def test_bad_arguments_are_seen_before_the_container(moorage: Instance) -> None:
    assert call(moorage, "GET /containers/nosuch/top?ps_args=-o%20x%3DPID").status == 500
    assert call(moorage, "GET /containers/nosuch/top").status == 404


def test_not_running(moorage: Instance) -> None:
    container = create(moorage, "true")
    answer = call(moorage, f"GET /containers/{container}/top")
    assert (answer.status, answer.json["message"]) == (409, f"container {container} is not running")
    remove(moorage, container)


def test_the_cli(moorage: Instance, container: str) -> None:
    said = moorage.docker("top", container, "-o", "pid,args").stdout.splitlines()
    assert said[0].split() == ["PID", "COMMAND"]
    assert len(said) == 3


def test_docker_py(moorage: Instance, container: str) -> None:
    assert len(moorage.client().containers.get(container).top()["Processes"]) == 2


def test_thread_rows_belong_to_the_process_before_them() -> None:
    output = "PID TID CMD\n1 - init\n- 1 -\n7 - mine  with  blanks\n- 7 -\n- 8 -\n9 - other\n- 9 -\n"
    assert parse(output, frozenset((7,))) == (
        ["PID", "TID", "CMD"],
        [["7", "-", "mine with blanks"], ["-", "7", "-"], ["-", "8", "-"]],
    )
    with pytest.raises(SystemFailure, match="Couldn't find PID"):
        parse("TID\n1\n", frozenset((1,)))

"""`docker stats`: what it shows of containers that work, sleep, stop and go. Expectations are dockerd's."""

import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.instance import Instance
from tests.support.streams import VERSION, call, create, done, inspect, remove, run, start
from tests.support.wire import Wire, request

ZERO = "0001-01-01T00:00:00Z"
UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


class Follower:
    """A client that follows a container's statistics."""

    def __init__(self, moorage: Instance, container: str, query: str = "") -> None:
        self.wire = Wire(moorage.socket, 30)
        self.wire.send(request(f"GET {VERSION}/containers/{container}/stats{query}"))
        self.head = self.wire.head()
        self.left = b""

    def next(self) -> Any:
        """The next document; None at the end."""
        while b"\n" not in self.left:
            while b"\r\n" not in self.wire.received:
                assert self.wire.more(), "the connection ended without a last chunk"
            size = int(self.wire.exactly(self.wire.received.index(b"\r\n") + 2), 16)
            self.left += self.wire.exactly(size)
            assert self.wire.exactly(2) == b"\r\n"
            if not size:
                return None
        line, _, self.left = self.left.partition(b"\n")
        return json.loads(line)


@pytest.fixture
def follow(moorage: Instance) -> Iterator[Callable[..., Follower]]:
    """Makes followers, and lets them leave."""
    made: list[Follower] = []

    def follower(container: str, query: str = "") -> Follower:
        made.append(Follower(moorage, container, query))
        return made[-1]

    yield follower
    for each in made:
        each.wire.socket.close()


@pytest.fixture(scope="module")
def busy(moorage: Instance, limits_enforced: None) -> Iterator[str]:
    """A container that turns in a circle at half a CPU, has 24 MB in a file system of memory and a limit of 96 MB."""
    command = "dd if=/dev/zero of=/shm/x bs=1M count=24 2>/dev/null; touch /shm/done; while :; do :; done"
    made = run(
        moorage,
        *("sh", "-c", command),
        network="bridge",
        HostConfig={"Memory": 96 << 20, "NanoCpus": 500_000_000, "PidsLimit": 50, "Tmpfs": {"/shm": ""}},
    )
    moorage.until(lambda: not moorage.docker("exec", made, "ls", "/shm/done", check=False).returncode, 60, "no dd")
    yield made
    remove(moorage, made)


def once(moorage: Instance, container: str, query: str = "") -> Any:
    return done(call(moorage, f"GET /containers/{container}/stats?stream=false{query}"))


def test_two_samples(moorage: Instance, busy: str) -> None:
    shown = once(moorage, busy)
    assert (shown["id"], shown["name"]) == (busy, inspect(moorage, busy)["Name"])
    assert shown["preread"] > ZERO
    assert shown["read"] > shown["preread"]
    before, now = shown["precpu_stats"], shown["cpu_stats"]
    assert 0 < before["cpu_usage"]["total_usage"] < now["cpu_usage"]["total_usage"]
    assert 0 < before["system_cpu_usage"] < now["system_cpu_usage"]
    assert sum(now["cpu_usage"].get("percpu_usage", [now["cpu_usage"]["total_usage"]])) > 0
    moorage.until(  # on a machine with much else to do it may get less than half a CPU for a while
        lambda: once(moorage, busy, "&one-shot=1")["cpu_stats"]["throttling_data"]["throttled_periods"],
        30,
        "never held",
    )
    memory = shown["memory_stats"]
    assert memory["limit"] == 96 << 20
    assert 24 << 20 < memory["usage"] < 96 << 20
    assert shown["pids_stats"] == {"current": 1, "limit": 50}
    assert set(shown["networks"]) == {"eth0"}
    assert (shown["num_procs"], shown["storage_stats"]) == (0, {})
    assert "os_type" not in shown  # from 1.52 on


def test_one_sample(moorage: Instance, busy: str) -> None:
    shown = once(moorage, busy, "&one-shot=true")
    assert (shown["preread"], shown["precpu_stats"]["cpu_usage"]["total_usage"]) == (ZERO, 0)
    assert "system_cpu_usage" not in shown["precpu_stats"]
    assert shown["cpu_stats"]["online_cpus"] >= 1
    with Wire(moorage.socket, 30) as wire:  # an older version does not know the parameter
        wire.send(request(f"GET /v1.40/containers/{busy}/stats?stream=0&one-shot=1"))
        assert wire.answer().json["preread"] > ZERO


def test_the_cli_shows_shares_and_memory(moorage: Instance, busy: str) -> None:
    said = moorage.docker("stats", "--no-stream", "--format", "{{.CPUPerc}}|{{.MemUsage}}|{{.PIDs}}", busy).stdout
    share, memory, pids = said.strip().split("|")
    assert 5 < float(share.removesuffix("%")) < 80  # half a CPU, on a machine that may be busy with other things
    used, limit = (re.fullmatch(r"([\d.]+)(\w+)", text) for text in memory.split(" / "))
    assert used
    assert limit
    assert 24 << 20 <= float(used[1]) * UNITS[used[2]] < 40 << 20
    assert limit[0] == "96MiB"
    assert pids == "1"


@pytest.mark.usefixtures("limits_enforced")
def test_memory_of_files_that_can_be_dropped_is_not_counted(moorage: Instance) -> None:
    """The CLI subtracts the inactive file cache: `total_inactive_file` (v1) or `inactive_file` (v2).

    The file is below /var/tmp: below /tmp, which may be a file system of memory, nothing could be dropped.
    """
    with tempfile.TemporaryDirectory(dir="/var/tmp") as disk:
        command = "dd if=/dev/zero of=/disk/x bs=1M count=32 2>/dev/null; exec sleep 1000"
        made = run(moorage, "sh", "-c", command, HostConfig={"Binds": [f"{disk}:/disk"]})
        try:
            _cache_is_not_counted(moorage, made)
        finally:
            remove(moorage, made)


def _cache_is_not_counted(moorage: Instance, made: str) -> None:
    def commands() -> list[str]:
        return [row[-1] for row in call(moorage, f"GET /containers/{made}/top").json["Processes"]]

    moorage.until(lambda: commands() == ["sleep 1000"], 60, "the file was not written")  # the shell names it, too
    memory = once(moorage, made, "&one-shot=1")["memory_stats"]
    cache = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file"))
    assert memory["usage"] > cache > 0
    shown = moorage.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", made).stdout
    used = re.match(r"([\d.]+)(\w+) /", shown)
    assert used
    assert abs(float(used[1]) * UNITS[used[2]] - (memory["usage"] - cache)) < 4 << 20
    assert memory["limit"] > 96 << 20  # without a limit of its own: the machine's memory
    with open("/proc/meminfo", encoding="ascii") as file:
        assert memory["limit"] == int(file.readline().split()[1]) * 1024


def test_networks(moorage: Instance, busy: str) -> None:
    before = once(moorage, busy, "&one-shot=1")["networks"]["eth0"]
    gateway = inspect(moorage, busy)["NetworkSettings"]["Gateway"]
    moorage.docker("exec", busy, "ping", "-c", "3", "-i", "0.05", "-s", "1000", gateway)
    after = once(moorage, busy, "&one-shot=1")["networks"]["eth0"]
    assert after["tx_packets"] >= before["tx_packets"] + 3
    assert after["tx_bytes"] >= before["tx_bytes"] + 3000
    assert after["rx_bytes"] >= before["rx_bytes"] + 3000
    assert set(after) == {f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")}
    made = {mode: run(moorage, "sleep", "1000", network=mode) for mode in ("none", "host", f"container:{busy}")}
    seen = {mode: once(moorage, container, "&one-shot=1").get("networks") for mode, container in made.items()}
    shared = seen.pop(f"container:{busy}")
    assert seen == {"none": None, "host": None}
    assert shared["eth0"]["tx_bytes"] >= after["tx_bytes"]
    for container in made.values():
        remove(moorage, container)


def test_a_second_network_shows_when_it_is_joined(moorage: Instance) -> None:
    moorage.docker("network", "create", "statnet")
    made = run(moorage, "sleep", "1000", network="bridge")
    moorage.docker("network", "connect", "statnet", made)
    assert set(once(moorage, made, "&one-shot=1")["networks"]) == {"eth0", "eth1"}
    remove(moorage, made)
    moorage.docker("network", "rm", "statnet")


def empty(shown: Any) -> bool:
    """What dockerd shows of a container that does not run."""
    return (
        (shown["read"], shown["memory_stats"], shown["pids_stats"]) == (ZERO, {}, {})
        and set(shown["blkio_stats"].values()) == {None}
        and shown["cpu_stats"]
        == {
            "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        }
        and "networks" not in shown
    )


@pytest.mark.usefixtures("limits_enforced")
def test_what_does_not_run_is_empty_and_a_stream_goes_on_until_it_is_removed(
    moorage: Instance, follow: Callable[..., Follower]
) -> None:
    made = create(moorage, "sleep", "1000")
    shown = once(moorage, made)
    assert empty(shown)
    assert (shown["id"], shown["preread"]) == (made, ZERO)
    follower = follow(made)
    assert (follower.head.status, follower.head.headers["content-type"]) == (200, "application/json")
    assert empty(follower.next())
    start(moorage, made)
    while empty(shown := follower.next()):
        pass
    assert shown["pids_stats"]["current"] == 1
    assert shown["preread"] == ZERO
    second = follower.next()
    assert second["preread"] == shown["read"]
    done(call(moorage, f"POST /containers/{made}/pause"))
    assert not empty(follower.next())
    done(call(moorage, f"POST /containers/{made}/unpause"))
    done(call(moorage, f"POST /containers/{made}/kill"))
    while not empty(follower.next()):
        pass
    start(moorage, made)
    while empty(follower.next()):
        pass
    remove(moorage, made)
    while follower.next() is not None:
        pass


def test_unknown(moorage: Instance) -> None:
    for query in ("", "?stream=false"):
        answer = call(moorage, f"GET /containers/nosuch/stats{query}")
        assert (answer.status, answer.json["message"]) == (404, "No such container: nosuch")


def test_all_of_them_in_the_cli(moorage: Instance, busy: str) -> None:
    idle = create(moorage, "true")
    said = moorage.docker("stats", "--no-stream", "--all", "--no-trunc", "--format", "{{.ID}} {{.PIDs}}").stdout
    assert dict(line.split() for line in said.splitlines()) == {busy: "1", idle: "0"}
    remove(moorage, idle)


def test_the_cli_follows_who_comes_and_goes(moorage: Instance, busy: str) -> None:
    process = moorage.docker_popen("stats", "--format", "<{{.Name}} {{.PIDs}}>")
    assert process.stdout
    out = process.stdout
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(line.decode() for line in out))
    reader.start()
    try:
        moorage.until(lambda: any("<" in line for line in seen), 60, "nothing was shown")
        made = moorage.docker("run", "-d", "--name", "latecomer", "busybox", "sleep", "1000").stdout.strip()
        moorage.until(lambda: any("<latecomer 1>" in line for line in seen), 60, "a new container was not shown")
        remove(moorage, made)
        shown = len(seen)
        moorage.until(
            lambda: len(seen) > shown + 6 and not any("latecomer" in line for line in seen[-2:]), 20, "it stayed"
        )
    finally:
        process.kill()
        process.wait()
        reader.join(60)


def test_docker_py(moorage: Instance, busy: str) -> None:
    stream = moorage.client().containers.get(busy).stats(decode=True)
    first, second = next(stream), next(stream)
    assert second["precpu_stats"] == first["cpu_stats"]


def test_many_followers_and_the_process_stays_while_they_do(
    moorage: Instance, busy: str, follow: Callable[..., Follower]
) -> None:
    followers = [follow(busy) for _ in range(40)]
    served_by = moorage.service_pid()
    failures: list[object] = []

    def read_five(follower: Follower) -> None:
        reads = [follower.next()["read"] for _ in range(5)]  # longer than the idle window of the tests
        if reads != sorted(set(reads)):
            failures.append(reads)

    threads = [threading.Thread(target=read_five, args=(follower,)) for follower in followers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert moorage.service_pid() == served_by
    for follower in followers:
        follower.wire.socket.close()
    moorage.wait_idle()  # nobody is left: they were seen to leave

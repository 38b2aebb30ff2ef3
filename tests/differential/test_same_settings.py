"""One daemon.json for dockerd and for moorage: what the two say of themselves, of networks and of containers then."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.differential import sameness
from tests.differential.dockerd import Dockerd, Unavailable
from tests.differential.steps import Step, delete, get, make, post
from tests.differential.test_same_answers import Side
from tests.support import image
from tests.support.instance import Instance

SETTINGS: dict[str, Any] = {
    "default-address-pools": [{"base": "10.99.64.0/18", "size": 26}],
    "bip": "10.99.8.1/24",
    "fixed-cidr": "10.99.8.128/25",
    "default-gateway": "10.99.8.254",
    "mtu": 1400,
    "icc": False,
    "ip": "127.0.0.1",
    "dns": ["10.99.0.53"],
    "dns-search": ["example.org"],
    "dns-opts": ["timeout:3"],
    "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}},
    "log-driver": "local",
    "log-opts": {"max-size": "1m"},
    "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 4096, "Soft": 2048}},
    "default-shm-size": "32M",
    "init": True,
    "runtimes": {
        "other": {"path": "runc", "runtimeArgs": ["--debug"]},
        "gone": {"path": "/nosuch/runtime"},
        "lost": {"path": "/nosuch/runtime", "runtimeArgs": ["--debug"]},
    },
    "default-runtime": "other",
    "default-ipc-mode": "shareable",
    "default-cgroupns-mode": "private",
    "no-new-privileges": True,
    "seccomp-profile": "unconfined",
    "debug": True,
    "experimental": True,
    "labels": ["where=here", "a=b"],
    "insecure-registries": ["registry.test:5000", "10.99.0.0/16"],
    "registry-mirrors": ["https://mirror.test"],
}
LOOK = (
    "cat /etc/resolv.conf",
    "ulimit -n",
    "ulimit -Hn",
    "df -k /dev/shm | tail -n 1 | awk '{print $2}'",
    "ip route",
    "ip -6 route | grep -v fe80",
    "cat /sys/class/net/eth0/mtu",
    "tr '\\0' ' ' </proc/1/cmdline | wc -w",
    "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status",
)
OWN = {"MOORAGE_SUBNETS": "", "MOORAGE_LOG_LEVEL": ""}  # what would go before the file
IPV6: dict[str, Any] = {"ipv6": True, "fixed-cidr-v6": "fd00:99:8::/64"}


@pytest.fixture(scope="module", params=[SETTINGS, IPV6], ids=["many", "ipv6"])
def sides(request: pytest.FixtureRequest) -> Iterator[tuple[Side, Side]]:
    """dockerd and moorage with the same settings, both with busybox."""
    text = json.dumps(request.param)
    if "MOORAGE_TEST_DOCKERD" in os.environ or Dockerd.installed() < 25:  # an older one does not live with all of them
        pytest.skip("needs a dockerd of its own that words its answers as ours")
    try:
        with Dockerd(configuration=text) as dockerd, Instance(environment=OWN) as moorage:
            with open(f"{moorage.folder}/daemon.json", "w", encoding="ascii") as file:
                file.write(text)
            moorage.load_busybox()
            with open(image.busybox(), "rb") as archive:
                said = Side(dockerd.socket).ask("", ("POST", "/images/load", archive.read()), "application/x-tar")
            assert said.status == 200, said.body
            yield Side(dockerd.socket), Side(moorage.socket)
    except Unavailable as reason:
        pytest.skip(str(reason))


def told(side: Side, *steps: Step) -> list[Any]:
    """The documents of all answers, none of which is an error."""
    found = []
    for step in steps:
        answer = side.ask("/v1.45", step)
        assert answer.status < 400, (step, answer.body)
        found.append(sameness.document(answer))
    return found


def unlike(theirs: Any, ours: Any) -> dict[str, tuple[Any, Any]]:
    return {path: (one, other) for path, one, other in sameness.differences(theirs, ours)}


def test_info(sides: tuple[Side, Side]) -> None:
    (theirs,), (ours,) = (told(side, get("/info")) for side in sides)
    shown = ("Labels", "LoggingDriver", "DefaultAddressPools", "ExperimentalBuild", "SecurityOptions", "Debug")
    for info in (theirs, ours):
        info["Labels"].sort()  # dockerd has them in no order
    assert not unlike(*({key: info.get(key) for key in shown} for info in (theirs, ours)))
    assert theirs["DefaultRuntime"] == ours["DefaultRuntime"]
    runtimes = [
        {name: {**known, "status": "status" in known} for name, known in info["Runtimes"].items()}
        for info in (theirs, ours)
    ]
    assert not unlike(*runtimes)
    one, other = (info["RegistryConfig"] for info in (theirs, ours))
    other["InsecureRegistryCIDRs"].remove("::1/128")  # as from dockerd 28 on
    for config in (one, other):
        config["InsecureRegistryCIDRs"].sort()
    assert not unlike(one, other)


def test_version(sides: tuple[Side, Side]) -> None:
    (theirs,), (ours,) = (told(side, get("/version")) for side in sides)
    assert theirs.get("Experimental") == ours.get("Experimental")
    assert {each["Components"][0]["Details"]["Experimental"] for each in (theirs, ours)} in ({"true"}, {"false"})
    answers = [side.ask("/v1.45", get("/_ping")) for side in sides]
    assert len({answer.headers["docker-experimental"] for answer in answers}) == 1


def test_networks(sides: tuple[Side, Side]) -> None:
    steps = (
        get("/networks/bridge"),
        post("/networks/create", {"Name": "d-first"}),
        get("/networks/d-first"),
        post("/networks/create", {"Name": "d-second", "Options": {"com.docker.network.driver.mtu": "1200"}}),
        get("/networks/d-second"),
        delete("/networks/d-first"),
        delete("/networks/d-second"),
    )
    theirs, ours = ([document for document in told(side, *steps) if document] for side in sides)
    for network in (theirs[0], ours[0]):
        assert network["Options"].pop("com.docker.network.bridge.name")
    pools = told(sides[0], get("/info"))[0].get("DefaultAddressPools")
    for network in (*theirs, *ours):
        for pool in network.get("IPAM", {}).get("Config") or ():
            if not pools and ":" not in pool["Subnet"]:  # which subnets are free differs
                pool.update(Subnet="0", Gateway="0")
            elif ":" in pool["Subnet"]:
                pool.pop("Gateway", None)  # dockerd does not tell the one of the default network
        (network.get("IPAM", {}).get("Config") or []).sort(key=lambda pool: pool["Subnet"])
    assert not unlike(theirs, ours)


def test_containers(sides: tuple[Side, Side]) -> None:
    command = "; ".join(LOOK)
    inspected, printed = [], []
    for side in sides:
        (_, _, _, document, _) = told(
            side,
            make("d-plain", Cmd=["sh", "-c", command], Tty=True),
            post("/containers/d-plain/start"),
            post("/containers/d-plain/wait"),
            get("/containers/d-plain/json"),
            make(
                "d-own",
                HostConfig={
                    "LogConfig": {"Type": "json-file"},
                    "ShmSize": 1 << 20,
                    "Init": False,
                    "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
                },
            ),
        )
        (own,) = told(side, get("/containers/d-own/json"))
        keys = (
            "IpcMode",
            "CgroupnsMode",
            "SecurityOpt",
            "LogConfig",
            "ShmSize",
            "Ulimits",
            "Init",
            "Dns",
            "DnsSearch",
            "DnsOptions",
        )
        inspected.append([{key: each["HostConfig"].get(key) for key in keys} for each in (document, own)])
        inspected[-1].append({key: document["NetworkSettings"][key] for key in ("Gateway", "IPAddress")})
        logs = side.ask("/v1.45", get("/containers/d-plain/logs?stdout=1"))
        lines = [line.strip() for line in logs.body.decode().splitlines()]
        printed.append([line for line in lines if line and not line.startswith("#")])
        for name in ("d-plain", "d-own"):
            told(side, delete(f"/containers/{name}"))
    assert not unlike(*inspected)
    assert printed[0] == printed[1]


def test_runtimes(sides: tuple[Side, Side]) -> None:
    named = set(told(sides[0], get("/info"))[0]["Runtimes"])
    outcomes = []
    for side in sides:
        seen: list[Any] = []
        for name in ("", "runc", "other", "gone", "lost", "nope"):
            step = make("d-run", Cmd=["true"], HostConfig={"Runtime": name} if name else {})
            made = side.ask("/v1.45", step)
            if made.status >= 400:
                seen.append((name, made.status, made.json["message"]))
                continue
            started = side.ask("/v1.45", post("/containers/d-run/start"))
            if started.status < 400:
                side.ask("/v1.45", post("/containers/d-run/wait"))
            (document,) = told(side, get("/containers/d-run/json"))
            seen.append((name, document["HostConfig"]["Runtime"], started.status, document["State"]["ExitCode"]))
            if started.status >= 400:
                assert "/nosuch/runtime" in started.json["message"], started.body
            side.ask("/v1.45", delete("/containers/d-run"))
        outcomes.append(seen)
    assert outcomes[0] == outcomes[1]
    assert ("other" in named) == (outcomes[0][0][1] == "other")

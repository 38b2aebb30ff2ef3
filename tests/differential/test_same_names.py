"""Names asked for inside containers, of dockerd and of moorage: the same answers.

Both engines work in network namespaces with the same addresses, so that answers can be compared as they are; a name
server outside of the containers stands in each.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from service.kernel import netlink, netns
from tests.differential.dockerd import Dockerd, Unavailable
from tests.differential.steps import make, post
from tests.differential.test_same_answers import Side
from tests.support import image
from tests.support.dns import Upstream, ask, question, read
from tests.support.instance import Instance

SERVER, NOBODY = "192.0.2.53", "192.0.2.54"
KNOWN = {
    ("ext.example", "A"): [bytes((203, 0, 113, 1))],
    ("ext.example", "AAAA"): [bytes.fromhex("20010db8" + "0" * 23 + "1")],
    ("ext.example", "MX"): [b"\0\x0a\4mail\7example\0"],
    ("ext.example", "TXT"): [b"\5hello"],
    ("web.example.org", "A"): [bytes((203, 0, 113, 2))],
    ("bare", "A"): [bytes((203, 0, 113, 3))],
    ("big.example", "A"): [bytes((203, 0, 113, n)) for n in range(1, 101)],
    ("mixed.example", "A"): [bytes((203, 0, 113, 4))],
    ("9.113.0.203.in-addr.arpa", "PTR"): [b"\4nine\7example\0"],
    ("web.one", "MX"): [b"\0\x0a\4mail\7example\0"],
    ("web", "TXT"): [b"\5hello"],
}


def place(number: int, **more: Any) -> dict[str, Any]:
    """An endpoint on the network `one`."""
    return {"IPAMConfig": {"IPv4Address": f"10.99.1.{number}", "IPv6Address": f"fd00:99:1::{number}"}, **more}


def on_one(name: str, number: int, *, host: "dict[str, Any] | None" = None, **more: Any) -> Any:
    """A container there."""
    endpoint = place(number, **{key: more.pop(key) for key in ("Aliases", "Links") if key in more})
    settings = {"NetworkMode": "d-one", "Dns": [SERVER], **(host or {})}
    return make(name, HostConfig=settings, NetworkingConfig={"EndpointsConfig": {"d-one": endpoint}}, **more)


NETWORKS: list[dict[str, Any]] = [
    {
        "Name": "d-one",
        "EnableIPv6": True,
        "IPAM": {"Config": [{"Subnet": "10.99.1.0/24"}, {"Subnet": "fd00:99:1::/64"}]},
    },
    {"Name": "d-two", "IPAM": {"Config": [{"Subnet": "10.99.2.0/24"}]}},
    {"Name": "d-shut", "Internal": True, "IPAM": {"Config": [{"Subnet": "10.99.3.0/24"}]}},
]
CONTAINERS = [
    on_one("d-web", 10, Aliases=["www", "MixedCase"], Hostname="webhost", Domainname="example.net"),
    on_one("d-web2", 11, Aliases=["www", "second"]),
    on_one("d-web3", 12, Aliases=["www", "dotted.name"]),
    on_one("d-asks", 20, Links=["d-web:linked", "d-web2"]),
    on_one("d-searches", 21, host={"DnsSearch": ["example.org"], "DnsOptions": ["ndots:3", "timeout:2"]}),
    on_one("d-servers", 22, host={"Dns": [NOBODY, SERVER], "DnsSearch": ["."]}),
    on_one("d-host", 23, host={"ExtraHosts": ["extra:203.0.113.77"]}),
    on_one("d-left", 24),
    make(
        "d-inner",
        HostConfig={"NetworkMode": "d-shut", "Dns": [SERVER]},
        NetworkingConfig={"EndpointsConfig": {"d-shut": {"IPAMConfig": {"IPv4Address": "10.99.3.10"}}}},
    ),
    make(
        "d-other",
        HostConfig={"NetworkMode": "d-two", "Dns": [SERVER]},
        NetworkingConfig={
            "EndpointsConfig": {"d-two": {"Aliases": ["www"], "IPAMConfig": {"IPv4Address": "10.99.2.10"}}}
        },
    ),
    make("d-plain", HostConfig={"Dns": [SERVER]}),
    make("d-shares", HostConfig={"NetworkMode": "container:d-asks"}),
]
STARTED = [step[1].partition("name=")[2] for step in CONTAINERS]
AFTERWARDS = [
    post(
        "/networks/d-two/connect",
        {"Container": "d-asks", "EndpointConfig": {"Aliases": ["both"], "IPAMConfig": {"IPv4Address": "10.99.2.20"}}},
    ),
    post(
        "/networks/d-shut/connect",
        {"Container": "d-web", "EndpointConfig": {"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.99.3.20"}}},
    ),
    post("/networks/d-one/disconnect", {"Container": "d-left"}),
    post("/containers/d-host/rename?name=d-renamed"),
]

# who asks, for what, of which type; a word more: by TCP, or with EDNS of so many bytes
QUESTIONS = [
    *(("d-asks", name, kind) for name in ("d-web", "www", "second", "linked", "webhost") for kind in ("A", "AAAA")),
    ("d-asks", "d-web", "MX"),
    *(("d-asks", name, "A") for name in ("D-WEB", "d-Web", "mixedcase", "MixedCase", "dotted.name")),
    *(("d-asks", name, "A") for name in ("d-web2", "d-web.")),
    *(("d-asks", name, "A") for name in ("d-web.d-one", "www.d-one", "linked.d-one", "webhost.d-one")),
    ("d-asks", "webhost.example.net", "A"),
    *(("d-asks", name, "A") for name in ("d-other", "d-other.d-two", "www.d-two", "both", "d-asks", "d-web.d-two")),
    *(("d-asks", name, "A") for name in ("d-inner", "db", "d-left", "d-host", "d-renamed")),
    *(("d-asks", name, "A") for name in ("extra", "d-plain", "d-shares")),
    *(("d-asks", name, "A") for name in ("localhost", "{short}", "{SHORT}", "nosuch", "no.such", "bare", "")),
    *(("d-asks", "ext.example", kind) for kind in ("A", "AAAA", "MX", "TXT", "SRV", "ANY")),
    *(("d-asks", name, "A") for name in ("MIXED.example", "big.example", "web.example.org", "host.docker.internal")),
    *(("d-asks", f"{n}.1.99.10.in-addr.arpa", "PTR") for n in (10, 11, 20, 24, 99)),
    *(("d-asks", f"{n}.2.99.10.in-addr.arpa", "PTR") for n in (10, 20)),
    ("d-asks", "20.3.99.10.in-addr.arpa", "PTR"),
    ("d-asks", "9.113.0.203.in-addr.arpa", "PTR"),
    ("d-asks", "0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.9.9.0.0.0.0.d.f.ip6.arpa", "PTR"),
    ("d-asks", "10.1.99.10.in-addr.arpa", "A"),
    ("d-asks", "d-web", "PTR"),
    *(("d-asks", name, "A", "tcp") for name in ("d-web", "www", "ext.example", "big.example", "nosuch.example")),
    *(("d-asks", name, "A", "4096") for name in ("d-web", "ext.example", "big.example", "nosuch.example")),
    *(("d-inner", name, "A") for name in ("db", "d-web", "www", "ext.example", "nosuch")),
    *(("d-inner", name, "PTR") for name in ("20.3.99.10.in-addr.arpa", "9.113.0.203.in-addr.arpa")),
    *(("d-other", name, "A") for name in ("www", "d-web", "both", "d-asks", "d-asks.d-one", "ext.example")),
    *(("d-web", name, "A") for name in ("d-inner", "d-asks", "linked", "ext.example", "db")),
    *(("d-shares", name, "A") for name in ("linked", "d-web", "both")),
    ("d-servers", "ext.example", "A"),
    *(("d-searches", name, "A") for name in ("web", "web.example.org", "d-web")),
    ("d-renamed", "extra", "A"),
    ("d-renamed", "d-renamed", "A"),
]  # fmt: skip


class Engine:
    """One of the two, with the containers in it."""

    def __init__(self, stack: ExitStack, socket: str, namespace: str) -> None:
        self.side, self.namespace = Side(socket), namespace
        stack.callback(self.clear)
        for words in (
            ("link", "add", "up0", "type", "bridge"),
            ("addr", "add", f"{SERVER}/24", "dev", "up0"),
            ("link", "set", "up0", "up"),
            ("route", "add", "default", "dev", "up0"),
        ):
            subprocess.run(["nsenter", f"--net={namespace}", "ip", *words], check=True)
        self.upstream = Upstream(namespace, SERVER, KNOWN)
        stack.callback(self.upstream.close)
        for body in NETWORKS:
            self.do(post("/networks/create", body))
        self.ids: dict[str, str] = {}
        for name, step in zip(STARTED, CONTAINERS, strict=True):
            self.do(step)
            self.ids[name] = self.side.last
            self.do(post(f"/containers/{name}/start"))
        self.places = {name: f"/proc/{self.inspect(name)['State']['Pid']}/ns/net" for name in STARTED}
        for step in AFTERWARDS:
            self.do(step)
        self.places["d-renamed"] = self.places["d-host"]

    def do(self, step: Any) -> Any:
        """One request that must go well."""
        answer = self.side.ask("/v1.45", step)
        assert answer.status < 300, (step, answer.body)
        return answer

    def inspect(self, name: str) -> Any:
        """A container's document."""
        return self.do(("GET", f"/containers/{name}/json", None)).json

    def clear(self) -> None:
        """Take away what was made."""
        for name in (*STARTED, "d-renamed"):
            self.side.ask("/v1.45", ("DELETE", f"/containers/{name}?force=1&v=1", None))
        for body in NETWORKS:
            self.side.ask("/v1.45", ("DELETE", f"/networks/{body['Name']}", None))

    def told(self, who: str, name: str, kind: str, way: str = "") -> Any:
        """What the container is answered, in a form that can be compared; and whether others were asked."""
        identifier = self.ids["d-web"]
        for pattern, text in (("{short}", identifier[:12]), ("{SHORT}", identifier[:12].upper())):
            name = name.replace(pattern, text)
        packet = question(name, kind, edns=int(way) if way.isdigit() else 0)
        before = len(self.upstream.asked)
        reply = read(ask(self.places[who], packet, stream=way == "tcp"))
        records = sorted((name.lower(), kind, ttl, text) for name, kind, ttl, text in reply.records)
        said = str(
            (
                reply.code,
                reply.flags,
                records[:5],
                len(records),
                "asked outside" if self.upstream.asked[before:] else "",
            )
        )
        for text in (identifier, identifier[:12]):
            said = said.replace(text, "ID")
        return said

    def resolv_conf(self, name: str) -> list[str]:
        """The lines of a container's resolv.conf that say something."""
        with open(self.inspect(name)["ResolvConfPath"], encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    """dockerd and moorage, each with the containers."""
    if os.geteuid():
        pytest.skip("needs root: it makes network namespaces")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ms", dir="/tmp"))
        try:
            dockerd = stack.enter_context(Dockerd())
            theirs = dockerd.namespace
            if dockerd.version()[0] < 25:
                pytest.skip("dockerd of that age answers otherwise")
        except Unavailable as reason:
            pytest.skip(str(reason))
        with open(image.busybox(), "rb") as archive:
            said = Side(dockerd.socket).ask("", post("/images/load", archive.read()), "application/x-tar")
        assert said.status == 200, said.body
        ours = f"{folder}/net"
        netns.create(ours, _loopback)
        stack.callback(netns.delete, ours)
        moorage = stack.enter_context(Instance(namespace=ours))
        moorage.load_busybox()
        yield Engine(stack, dockerd.socket, theirs), Engine(stack, moorage.socket, ours)


def _loopback() -> None:
    with netlink.Channel() as channel:
        channel.request(netlink.set_up(1))


@pytest.mark.parametrize("asked", QUESTIONS, ids=" ".join)
def test_the_same_answer(engines: tuple[Engine, Engine], asked: tuple[str, ...]) -> None:
    theirs, ours = (engine.told(*asked) for engine in engines)
    assert ours == theirs


@pytest.mark.parametrize("kind", ["TXT", "SRV", "NS", "SOA", "CNAME", "ANY"])
def test_the_names_of_containers_stay_inside(engines: tuple[Engine, Engine], kind: str) -> None:
    """A name that exists has no record of such a type. dockerd asks outside, and says that there is no such name."""
    theirs, ours = (engine.told("d-asks", "d-web", kind) for engine in engines)
    assert ours == str(("OK", "RD RA", [], 0, ""))
    assert theirs == str(("NXDOMAIN", "RD RA", [], 0, "asked outside"))


def test_several_of_one_name_take_turns(engines: tuple[Engine, Engine]) -> None:
    for engine in engines:
        first = {read(ask(engine.places["d-asks"], question("www", "A"))).records[0][3] for _ in range(200)}
        assert first == {"10.99.1.10", "10.99.1.11", "10.99.1.12"}, engine.namespace


@pytest.mark.parametrize("name", ["d-asks", "d-searches", "d-servers", "d-inner", "d-plain", "d-shares", "d-web"])
def test_the_same_resolv_conf(engines: tuple[Engine, Engine], name: str) -> None:
    theirs, ours = (engine.resolv_conf(name) for engine in engines)
    assert ours == theirs

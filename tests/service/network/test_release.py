"""The end of a container's network, also of one that was interrupted: nothing stays behind."""

import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.engine import container_files, endpoints
from service.kernel import netns
from service.store import events
from service.store import networks as stored
from tests.service.network.conftest import Container, Host, Interrupted, Server, call

Serve = Callable[..., Server]
WEB = {"80/tcp": [{"HostPort": "8080"}], "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}]}


def test_release_leaves_nothing(host: Host) -> None:
    web = host.container("web", ports=WEB)
    web.release()
    assert host.left_behind() == []
    web.release()  # and again


def test_release_of_what_was_never_started(host: Host) -> None:
    record = host.record("idle")
    host.do(endpoints.release, host.settings, host.engine.store, record["Id"])
    assert host.left_behind() == []


def test_address_and_port_can_be_had_again(host: Host) -> None:
    first = host.container("first", ports=WEB)
    first.release()
    second = host.container("second", ports=WEB)
    assert second.ip == first.ip


def test_events_of_joining_and_leaving(host: Host) -> None:
    host.container("a").release()
    seen = events.after(host.engine.store, 0)
    assert [event["Action"] for event in seen] == ["connect", "disconnect"]
    assert seen[0]["Actor"]["Attributes"].items() >= {"name": "bridge", "type": "bridge"}.items()


def test_release_while_another_container_shares_the_namespace(host: Host) -> None:
    owner = host.container("owner")
    joiner = os.open(owner.namespace, os.O_RDONLY)  # keeps it alive as a process in it would
    try:
        owner.release()
        again = host.container("again")
        assert again.ip == owner.ip
        path = f"/proc/self/fd/{joiner}"
        assert "172.17." not in netns.inside(path, lambda: os.popen("ip addr").read())
    finally:
        os.close(joiner)


def test_a_container_gets_its_packets_while_its_old_namespace_is_kept(host: Host, serve: Serve) -> None:
    """What kept it may still speak there, with the hardware address that the new interface has as well."""
    old = host.container("web")
    host.container("other")
    joiner = os.open(old.namespace, os.O_RDONLY)
    try:
        old.release()
        again = host.container("again", ports=WEB)
        assert again.plan.endpoints[0]["Mac"] == old.plan.endpoints[0]["Mac"]
        serve(again.namespace, 80)
        assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"  # the host knows its hardware address now
        mac = bytes.fromhex(old.plan.endpoints[0]["Mac"].replace(":", ""))

        def speak() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
                raw.bind(("eth0", 0))
                raw.send(b"\xff" * 6 + mac + b"\x88\xb5" + bytes(46))  # an EtherType for experiments (IEEE 802)

        try:
            netns.inside(f"/proc/self/fd/{joiner}", speak)
        except OSError:
            pass  # it has no interface any more that would carry anything
        learned = [line.split()[2] for line in host.run("bridge", "fdb").splitlines() if line.startswith(mac.hex(":"))]
        assert learned == [again.plan.endpoints[0]["HostInterface"]], "where the bridge sends what is for it"
        assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"
    finally:
        os.close(joiner)


def test_release_when_everything_is_gone_already(host: Host) -> None:
    web = host.container("web", ports=WEB)
    host.run("nft", "flush", "ruleset")
    host.run("ip", "link", "del", "mtest0")
    netns.delete(web.namespace)
    web.release()
    assert host.left_behind() == []


def test_one_address_is_never_given_twice(host: Host) -> None:
    records = [host.record(f"c{number}", ports={"80/tcp": [{"HostPort": ""}]}) for number in range(50)]
    plans: list[endpoints.Plan] = []
    errors: list[BaseException] = []

    def prepare(record: Any) -> None:
        try:
            plans.append(host.do(endpoints.prepare, host.settings, host.engine.store, record))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=prepare, args=(record,)) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for plan in plans:
        plan.close()
    assert not errors
    assert len({plan.endpoints[0]["IPv4"] for plan in plans}) == 50
    assert len({plan.ports[0]["HostPort"] for plan in plans}) == 50
    assert {row[0] for row in host.engine.store.rows("SELECT count(*) FROM networks")} == {3}


@pytest.mark.timeout(300)
def test_killed_anywhere_in_a_start(host: Host) -> None:
    host.container("zero")  # bridge and rules are there
    record = host.record("web", ports=WEB)
    store = host.engine.store
    killed, at, results = True, 1, 0
    while killed:

        def start() -> None:
            plan = endpoints.prepare(host.settings, store, record)
            endpoints.open_namespace(plan)
            container_files.write(host.settings, plan)
            endpoints.wire(host.settings, plan)

        killed = Interrupted(host).run(start, at)
        at += 23
        results += 1
        host.do(endpoints.release, host.settings, store, record["Id"])
        assert _foreign(host) == [], f"killed at line {at - 23}"
    assert results > 20
    host.start(record).release()


@pytest.mark.timeout(300)
def test_killed_anywhere_in_a_release(host: Host) -> None:
    host.container("zero")
    record = host.record("web", ports=WEB)
    store = host.engine.store
    killed, at, results = True, 1, 0
    while killed:
        web: Container = host.start(record)
        web.plan.close()
        killed = Interrupted(host).run(lambda: endpoints.release(host.settings, store, record["Id"]), at)
        at += 11
        results += 1
        host.do(endpoints.release, host.settings, store, record["Id"])
        assert _foreign(host) == [], f"killed at line {at - 11}"
    assert results > 10


def _foreign(host: Host) -> list[str]:
    """What is left behind, without that of the container `zero`, which is to stay."""
    zero = stored.all_endpoints(host.engine.store)
    assert [endpoint["ContainerName"] for endpoint in zero] == ["zero"]
    kept = (zero[0]["HostInterface"], zero[0]["ContainerId"], zero[0]["Id"])
    import time

    deadline = time.monotonic() + 30
    while True:
        left = [text for text in host._left() if not any(name in text for name in kept)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)

"""A container joins a network, or leaves it (API: NetworkConnect, NetworkDisconnect).

One that does not run only remembers it. For one that runs, a mark in its run directory says what is being done, from
before the first change until after the last: who finds the mark without its maker brings it to its end (`finish`).
The verbs block; the service calls them in a thread. Errors in dockerd's words.
"""

import os

from service import bell
from service.engine import (
    container_files,
    duty,
    endpoint_settings,
    endpoints,
    keeping,
    network_mode,
    network_options,
    publishing,
)
from service.engine.networks import find
from service.errors import Forbidden, InvalidParameter, MoorageError, NotFound, SystemFailure
from service.ids import new_id
from service.kernel import netlink
from service.network import rules, veth, vlan
from service.store import containers
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.model.container import Container, ContainerRecord
    from service.model.network import Endpoint, NetworkRecord, Port
    from service.settings import Settings
    from service.store.database import Database


class _Mark:
    """`with _Mark(settings, container, "connect", network):` what is being done to a running container's networks."""

    def __init__(self, settings: "Settings", container_id: str, verb: str = "", network_id: str = "") -> None:
        self.file = settings.container_run(container_id) + "/joining"
        self.text = f"{verb} {network_id}"

    def read(self) -> "tuple[str, str]":
        """Verb and network of somebody who did not come to the end; empty when nothing was begun."""
        try:
            with open(self.file, encoding="ascii") as file:
                verb, _, network_id = file.read().partition(" ")
        except FileNotFoundError:
            return "", ""
        return verb, network_id

    def remove(self) -> None:
        """All is as the store says."""
        try:
            os.unlink(self.file)
        except FileNotFoundError:
            return

    def __enter__(self) -> None:
        fd = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, self.text.encode())
        finally:
            os.close(fd)

    def __exit__(self, kind: "type[BaseException] | None", error: object, trace: object) -> None:
        if kind is None or issubclass(kind, MoorageError):  # else something is left that nobody could undo
            self.remove()


def connect(
    settings: "Settings", database: "Database", reference: str, container: str, asked: "dict[str, Any] | None"
) -> None:
    """Put a container on a network: at once when it runs, else when it starts. Raises in dockerd's words."""
    from service.engine import release

    container_id = containers.resolve(database, container)
    network = find(settings, database, reference)
    with release.exclusively(settings, container_id):
        found = containers.get(database, container_id)
        record = found["record"]
        _check_joinable(record, network)
        endpoint_settings.check(network["Name"], network, asked or {})
        if found["state"]["status"] in ("running", "paused"):
            _finish(settings, database, record)
            with _Mark(settings, container_id, "connect", network["Id"]):
                _join(settings, database, containers.get(database, container_id)["record"], network, asked or {})
        else:
            with database.write():
                _remember(database, record, network["Name"], asked or {})
    bell.ring(settings.bell)


def _check_joinable(record: "ContainerRecord", network: "NetworkRecord") -> None:
    mode, present = network_mode.mode_of(record), network_mode.asked_networks(record)
    if mode == "host" or mode.startswith("container:"):
        raise InvalidParameter(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network"
        )
    if network["Driver"] == "host":
        raise InvalidParameter(
            "cannot connect container to host network - container must be created in host network mode"
        )
    if (network["Driver"] == "null" and present) or "none" in present:
        raise InvalidParameter(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )


def _remember(database: "Database", record: "ContainerRecord", name: str, asked: "dict[str, Any] | None") -> None:
    """Change what the container's record says of a network; None: it is no longer on it."""
    wanted = network_mode.asked_networks(record)
    if asked is None:
        wanted.pop(name, None)
    else:
        wanted[name] = asked
    record["EndpointsConfig"] = wanted
    containers.replace_record(database, record)


def _join(
    settings: "Settings",
    database: "Database",
    record: "ContainerRecord",
    network: "NetworkRecord",
    asked: "dict[str, Any]",
) -> None:
    with database.write():
        present = stored.endpoints_of(database, record["Id"])
        if any(endpoint["NetworkId"] == network["Id"] for endpoint in present):
            raise Forbidden(f"endpoint with name {record['Name']} already exists in network {network['Name']}")
        names = {endpoint["Interface"] for endpoint in present}
        (interface,) = endpoint_settings.interfaces([(asked, network_options.prefix(network))], names)
        sandbox = present[0]["SandboxId"] if present else new_id()
        joined = endpoints.allocate(database, record, network, asked, sandbox=sandbox, interface=interface)
        stored.insert_endpoint(database, joined)
        endpoints.announce(database, "connect", joined)
        _remember(database, record, network["Name"], asked)
        published = stored.ports_of(database, record["Id"])
        containers.set_state(database, record["Id"], duties=duty.wanted(record, published))
    _plug(settings, database, record, joined)


def _plug(settings: "Settings", database: "Database", record: "ContainerRecord", joined: "Endpoint") -> None:
    """The interface of an endpoint that is registered, the routes and the files; when it fails, it is out again."""
    namespace = endpoints.namespace_of(settings, record["Id"])
    try:
        with netlink.Channel() as channel:
            endpoints.attach(settings, database, channel, joined, namespace)
        _route(settings, database, record, joined=True)
    except BaseException:
        _leave(settings, database, record, joined)
        raise
    bell.ring(settings.bell)
    keeping.ensure(settings, database)  # this may be its first network with names
    container_files.joined(settings, database, record, joined)


def disconnect(
    settings: "Settings", database: "Database", reference: str, container: str, *, force: bool = False
) -> None:
    """Take a container off a network. Raises in dockerd's words. `force`: also one whose container is gone."""
    from service.engine import release

    try:
        container_id = containers.resolve(database, container)
    except NotFound:
        if not force:
            raise
        network = find(settings, database, reference)
        return _forget_orphan(settings, database, network, container)
    try:
        network = find(settings, database, reference)
    except NotFound:
        if _forget_removed(settings, database, container_id, reference):
            return None
        raise
    with release.exclusively(settings, container_id):
        found = containers.get(database, container_id)
        record = found["record"]
        if network["Driver"] == "host" and network_mode.mode_of(record) == "host":
            raise InvalidParameter(
                "cannot disconnect container from host network - container was created in host network mode"
            )
        if found["state"]["status"] in ("running", "paused"):
            _finish(settings, database, record)
            known = _endpoint_on(database, container_id, network["Id"])
            if known is None:
                raise _not_connected(container_id, network)
            with _Mark(settings, container_id, "disconnect", network["Id"]):
                _leave(settings, database, containers.get(database, container_id)["record"], known)
        else:
            if network["Name"] not in network_mode.asked_networks(record):
                raise SystemFailure(f"container {container_id} is not connected to the network {network['Name']}")
            with database.write():
                _remember(database, record, network["Name"], None)
    bell.ring(settings.bell)
    return None


def _forget_removed(settings: "Settings", database: "Database", container_id: str, name: str) -> bool:
    """Take a stopped container off a network that was removed meanwhile, so that it can be started again.

    False when there is nothing of the kind to do.
    """
    from service.engine import release

    with release.exclusively(settings, container_id):
        found = containers.get(database, container_id)
        if found["state"]["status"] in ("running", "paused") or name not in network_mode.asked_networks(
            found["record"]
        ):
            return False
        with database.write():
            _remember(database, found["record"], name, None)
    bell.ring(settings.bell)
    return True


def _endpoint_on(database: "Database", container_id: str, network_id: str) -> "Endpoint | None":
    known = [place for place in stored.endpoints_of(database, container_id) if place["NetworkId"] == network_id]
    return known[0] if known else None


def _not_connected(container_id: str, network: "NetworkRecord") -> SystemFailure:
    return SystemFailure(f"container {container_id} is not connected to network {network['Name']}")


def _forget_orphan(settings: "Settings", database: "Database", network: "NetworkRecord", name: str) -> None:
    for endpoint in stored.endpoints_on(database, network["Id"]):
        if endpoint["ContainerName"] == name.removeprefix("/"):
            endpoints.release(settings, database, endpoint["ContainerId"])
            return
    raise NotFound(f"endpoint {name} not found")


def _leave(settings: "Settings", database: "Database", record: "ContainerRecord", endpoint: "Endpoint") -> None:
    """Interface first, row last: a crash in between leaves the row for `finish`, or for the container's release."""
    if endpoint["HostInterface"]:
        with netlink.Channel() as channel:
            channel.request(netlink.delete_link(endpoint["HostInterface"]))
    elif endpoint["Interface"]:
        vlan.detach(endpoint, endpoints.namespace_of(settings, record["Id"]))
    container_files.left(settings, record, endpoint)
    with database.write():
        if stored.delete_endpoint(database, endpoint["Id"]):
            endpoints.announce(database, "disconnect", endpoint)
        _remember(database, record, endpoint["NetworkName"], None)
    if endpoint.get("Open"):
        rules.withdraw(settings.nft_table, (), [endpoint])
    _route(settings, database, record)


def _route(settings: "Settings", database: "Database", record: "ContainerRecord", *, joined: bool = False) -> None:
    """Give the default route, and with it the published ports, to the endpoint that has the best claim now.

    `joined`: it is new. What could not be published before (on an internal network, say) is published now. Raises
    SystemFailure when a port cannot be had.
    """
    container_id = record["Id"]
    with endpoints.exclusively(settings):
        with database.write():
            present = stored.endpoints_of(database, container_id)
            closed = [copy for copy in map(_copy, present) if copy.get("Open")]
            best = endpoints.choose_default_route(present)
            for endpoint in present:
                endpoint.pop("Open", None)
            if best is not None:
                publishing.open_ports(database, record, best)
            for endpoint in present:
                stored.replace_endpoint(database, endpoint)
            before = stored.ports_of(database, container_id)
            after = [_moved(port, best) for port in before]
            stored.delete_ports(database, container_id)
            for port in after:
                stored.insert_port(database, port)
            if best is not None and not before and joined:
                after = _publish(database, record, best)
        veth.set_default_route(best, endpoints.namespace_of(settings, container_id))
        opened = [endpoint for endpoint in present if endpoint.get("Open")]
        if (after, opened) != (before, closed):
            rules.withdraw(settings.nft_table, before, closed)
            rules.publish(settings.nft_table, after, opened)


def _publish(database: "Database", record: "ContainerRecord", carrier: "Endpoint") -> "list[Port]":
    """Host ports for what a running container publishes. Its monitor cannot be given sockets any more: the keeper makes
    those that it listens on, and the store alone keeps the others from containers of ours."""
    taken: list[Port] = []
    held: list[int] = []
    try:
        publishing.take_ports(database, record, carrier, taken, held)
    finally:
        for fd in held:
            os.close(fd)
    containers.set_state(database, record["Id"], duties=duty.wanted(record, taken))
    return taken


def _copy(endpoint: "Endpoint") -> "Endpoint":
    return {**endpoint}


def _moved(port: "Port", carrier: "Endpoint | None") -> "Port":
    if carrier is None or carrier["Driver"] != "bridge":
        return port  # nowhere to go: as it was, the container may come back to a network
    address = carrier["IPv6"] if ":" in port["ContainerIP"] else carrier["IPv4"]
    return {**port, "ContainerIP": address} if address else port


# what was killed on its way


def finish(settings: "Settings", database: "Database", container: "Container") -> None:
    """Bring a connect or disconnect of a running container to its end. Raises BlockingIOError while one is under way,
    or as these do; then it can be tried again."""
    from service.engine import release

    container_id = container["record"]["Id"]
    with release.exclusively(settings, container_id, wait=False):
        found = containers.get(database, container_id)
        if found["state"]["status"] in ("running", "paused"):
            _finish(settings, database, found["record"])


def _finish(settings: "Settings", database: "Database", record: "ContainerRecord") -> None:
    """A network that cannot be joined any more is left again, and the reason raised."""
    mark = _Mark(settings, record["Id"])
    verb, network_id = mark.read()
    place = _endpoint_on(database, record["Id"], network_id)
    if verb == "connect" and place is not None:
        _plug(settings, database, record, place)
    elif verb == "disconnect" and place is not None:
        _leave(settings, database, record, place)
    elif verb:
        _route(settings, database, record)
    if verb:
        with endpoints.exclusively(settings):  # they may have moved in the store, and not in the kernel
            endpoints.write_rules(settings, database)
    mark.remove()

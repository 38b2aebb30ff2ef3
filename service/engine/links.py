"""Links: names by which one container calls another (HostConfig.Links, and Links of an endpoint).

A link of the default network is kept in the store: it follows renames, gives the linked container one more name
(`/web/db`), and the linking one an entry in /etc/hosts and variables (`DB_PORT_5432_TCP_ADDR`). A link of a network
that a user has made stands in the endpoint's settings, and is an alias that the container's name server knows.
"""

from service.engine.network_mode import mode_of
from service.errors import Conflict, InvalidParameter, NotFound
from service.store import containers
from service.store import links as stored
from service.store import networks as stored_networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from service.model.container import Container, ContainerRecord
    from service.model.network import Endpoint
    from service.store.database import Database

    Entries = list[tuple[str, str]]

DEFAULT = "bridge"  # the network whose links these are


def parse(text: str) -> "tuple[str, str]":
    """Container and alias of `container[:alias]`, or of what inspect shows (`/db:/web/database`). Raises
    InvalidParameter."""
    if not text:
        raise InvalidParameter("empty string specified for links")
    parts = text.split(":")
    if len(parts) > 2:
        raise InvalidParameter(f"bad format for links: {text}")
    if len(parts) == 1:
        return text, text
    if parts[0].startswith("/"):
        return parts[0][1:], parts[1].rpartition("/")[2]
    return parts[0], parts[1]


def decide(database: "Database", host: "Mapping[str, Any]") -> "dict[str, ContainerRecord]":
    """The links that a create asks for: alias → container. Of two with one alias the first counts.

    Raises InvalidParameter for a container that is not there or has no network of its own.
    """
    wanted: dict[str, ContainerRecord] = {}
    if host["NetworkMode"] not in (DEFAULT, "host", "none") and not host["NetworkMode"].startswith("container:"):
        return wanted  # a network of the user's: the endpoints' settings say it
    for text in host["Links"] or ():
        name, alias = parse(text)
        child = _owner(database, name)
        if mode_of(child) == "host":
            raise InvalidParameter(
                "conflicting options: host type networking can't be used with links. This would result in undefined "
                "behavior"
            )
        if alias.strip("/"):
            wanted.setdefault(alias.strip("/"), child)
    return wanted


def _owner(database: "Database", name: str) -> "ContainerRecord":
    """The container of that name, or the one whose network it shares."""
    met: set[str] = set()
    while True:
        try:
            if not name:
                raise NotFound('invalid name or ID supplied: ""')
            child = containers.find(database, name)["record"]
        except (NotFound, InvalidParameter) as error:
            raise InvalidParameter(f"could not get container for {name}: {error.message}") from None
        if not mode_of(child).startswith("container:"):
            return child
        if child["Id"] in met:  # by names that were given again they may come to point at each other
            raise InvalidParameter(f"could not get container for {name}: it shares its own network")
        met.add(child["Id"])
        name = mode_of(child).partition(":")[2]


def register(database: "Database", record: "ContainerRecord", wanted: "Mapping[str, ContainerRecord]") -> None:
    """Write the links of a new container down. In its transaction."""
    for alias, child in wanted.items():
        stored.insert(database, record["Id"], alias, child["Id"], child["Name"])


def shown(database: "Database", record: "ContainerRecord") -> "list[str] | None":
    """HostConfig.Links of inspect: `/db:/web/database`."""
    known = stored.of_parent(database, record["Id"])
    return [f"/{name}:/{record['Name']}/{alias}" for alias, _, name in known] or None


def _running(database: "Database", record: "ContainerRecord") -> "Iterator[tuple[str, Container]]":
    """The linked containers by alias. Raises Conflict when one does not run."""
    for alias, child_id, name in stored.of_parent(database, record["Id"]):
        try:
            child = containers.get(database, child_id)
        except NotFound:
            child = None
        if child is None or child["state"]["status"] not in ("running", "paused"):
            raise Conflict(f"Cannot link to a non running container: /{name} AS /{record['Name']}/{alias}")
        yield alias, child


def _names(alias: str, child: "ContainerRecord") -> str:
    last = alias.rpartition("/")[2]
    names = [last, child["Config"].get("Hostname") or "", child["Name"]]
    return " ".join(dict.fromkeys(name for name in names if name))


def _default(endpoints: "Sequence[Endpoint]") -> "Endpoint | None":
    return next((endpoint for endpoint in endpoints if endpoint["NetworkName"] == DEFAULT), None)


def _addresses(endpoint: "Endpoint") -> list[str]:
    return [address for address in (endpoint["IPv4"], endpoint["IPv6"]) if address]


def entries(database: "Database", record: "ContainerRecord", endpoints: "Sequence[Endpoint]") -> "Entries":
    """The lines of /etc/hosts by which a container calls those that it is linked to.

    Raises Conflict when one does not run, or is not on the default network.
    """
    own = _default(endpoints)
    if own is None:
        return []
    found: Entries = []
    for alias, child in _running(database, record):
        there = _default(stored_networks.endpoints_of(database, child["record"]["Id"]))
        if there is None:
            raise Conflict(f"Cannot link to /{child['record']['Name']}, as it does not belong to the default network")
        found += [(address, _names(alias, child["record"])) for address in _addresses(there)]
    return found


def callers(
    database: "Database", record: "ContainerRecord", endpoints: "Sequence[Endpoint]"
) -> "Iterator[tuple[str, str, Entries]]":
    """Who calls a container that has these endpoints now by an alias: (id, alias, lines of its /etc/hosts)."""
    own = _default(endpoints)
    for parent_id, alias in stored.of_child(database, record["Id"]) if own is not None else ():
        assert own is not None
        last = alias.rpartition("/")[2]
        yield parent_id, last, [(address, _names(alias, record)) for address in _addresses(own)]


def environment(database: "Database", record: "ContainerRecord", endpoints: "Sequence[Endpoint]") -> list[str]:
    """The variables that describe the containers that one is linked to. Raises Conflict when one does not run."""
    if _default(endpoints) is None:
        return []
    variables: list[str] = []
    for alias, child in _running(database, record):
        there = _default(stored_networks.endpoints_of(database, child["record"]["Id"]))
        config = child["record"]["Config"]
        variables += variables_of(
            f"/{record['Name']}/{alias}",
            there["IPv4"] if there else "",
            config.get("ExposedPorts") or {},
            config.get("Env") or (),
        )
    return variables


def variables_of(name: str, address: str, exposed: "Mapping[str, Any]", env: "Sequence[str]") -> list[str]:
    """What a container is told of one that it calls `name` (`/web/db`): its ports and its environment.

    Ports that follow one another are also told as a range. Source: moby daemon/links/links.go.
    """
    from service.network.ports import parse_port

    prefix = name.rpartition("/")[2].upper().replace("-", "_")
    ports = sorted((parse_port(text) for text in exposed), key=lambda port: (port[1] != "tcp", port[1], port[0]))
    told: list[str] = []
    for number, protocol in ports:
        where = f"{protocol}://{address}:{number}"
        if not told:
            told.append(f"{prefix}_PORT={where}")
        port = f"{prefix}_PORT_{number}_{protocol.upper()}"
        told += [f"{port}={where}", f"{port}_ADDR={address}", f"{port}_PORT={number}", f"{port}_PROTO={protocol}"]
    for (first, protocol), last in _ranges(ports):
        port = f"{prefix}_PORT_{first}_{protocol.upper()}"
        told += [
            f"{port}_START={protocol}://{address}:{first}",
            f"{port}_PORT_START={first}",
            f"{port}_END={protocol}://{address}:{last}",
            f"{port}_PORT_END={last}",
        ]
    told.append(f"{prefix}_NAME={name}")
    for variable in env:
        key, equals, value = variable.partition("=")
        if equals and key not in ("HOME", "PATH"):
            told.append(f"{prefix}_ENV_{key}={value}")
    return told


def _ranges(ports: "Sequence[tuple[int, str]]") -> "list[tuple[tuple[int, str], int]]":
    """The runs of at least two ports of one protocol that follow one another: (first port, last number)."""
    runs: list[tuple[tuple[int, str], int]] = []
    for number, protocol in ports:
        if runs and runs[-1][0][1] == protocol and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append(((number, protocol), number))
    return [run for run in runs if run[1] > run[0][0]]


def remove(database: "Database", reference: str) -> "tuple[str, str]":
    """Forget the link that a name like `/web/db` is; (id of the linking container, alias). In a transaction.

    Raises NotFound when nothing is called so, Conflict when it is the container's own name.
    """
    containers.resolve(database, reference)
    parent, _, alias = reference.strip("/").partition("/")
    if not alias:
        raise Conflict("Conflict, cannot remove the default link name of the container")
    parent_id = containers.resolve(database, parent)
    stored.delete(database, parent_id, alias)
    return parent_id, alias

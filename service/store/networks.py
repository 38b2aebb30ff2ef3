"""The rows of `networks`, `endpoints` and `ports`."""

from service import jsontext
from service.errors import Conflict, InvalidParameter, NotFound
from service.ids import is_hex
from service.store.database import Database, IntegrityError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.model.network import Endpoint, NetworkRecord, Port


def insert(database: Database, record: "NetworkRecord") -> None:
    """Register a network. Raises Conflict when its name is taken."""
    try:
        database.change(
            "INSERT INTO networks (id, name, driver, created, record) VALUES (?, ?, ?, ?, ?)",
            (record["Id"], record["Name"], record["Driver"], record["Created"], jsontext.dumps(record)),
        )
    except IntegrityError:
        raise Conflict(f"network with name {record['Name']} already exists") from None


def replace(database: Database, record: "NetworkRecord") -> None:
    """Store a changed network (its name stays)."""
    database.change("UPDATE networks SET record = ? WHERE id = ?", (jsontext.dumps(record), record["Id"]))


def all_networks(database: Database) -> "list[NetworkRecord]":
    """All networks, the oldest first."""
    return [jsontext.loads(row[0]) for row in database.rows("SELECT record FROM networks ORDER BY created, id")]


def by_name(database: Database, name: str) -> "NetworkRecord | None":
    """The network with exactly this name, or None."""
    row = database.row("SELECT record FROM networks WHERE name = ?", (name,))
    return jsontext.loads(row[0]) if row else None


def find(database: Database, reference: str) -> "NetworkRecord":
    """The network that a full id, a name, or an unambiguous beginning of an id means.

    Raises NotFound, or InvalidParameter when several ids begin so (moby: daemon/network.go FindNetwork).
    """
    row = database.row("SELECT record FROM networks WHERE id = ?", (reference,)) or database.row(
        "SELECT record FROM networks WHERE name = ?", (reference,)
    )
    if row is None and is_hex(reference):
        rows = database.rows(
            "SELECT record FROM networks WHERE id >= ? AND id < ? LIMIT 2", (reference, reference + "g")
        )
        if len(rows) > 1:
            raise InvalidParameter(f"network {reference} is ambiguous ({len(rows)} matches found on ID prefix)")
        row = rows[0] if rows else None
    if row is None:
        raise NotFound(f"network {reference} not found")
    found: NetworkRecord = jsontext.loads(row[0])
    return found


def ids_by_name(database: Database) -> "dict[str, str]":
    """The ids of all networks."""
    return dict(database.rows("SELECT name, id FROM networks"))


def configurations(database: Database) -> "set[str]":
    """The names of the config-only networks that others were made from."""
    return {network["ConfigFrom"]["Network"] for network in all_networks(database)}


def delete(database: Database, network_id: str) -> bool:
    """Forget a network. False when it was gone already. Raises IntegrityError while it has endpoints."""
    return bool(database.change("DELETE FROM networks WHERE id = ?", (network_id,)))


def addresses(database: Database, network_id: str) -> "list[str]":
    """All addresses that are in use on a network."""
    rows = database.rows("SELECT ipv4, ipv6 FROM endpoints WHERE network_id = ?", (network_id,))
    return [address for row in rows for address in row if address]


def insert_endpoint(database: Database, endpoint: "Endpoint") -> None:
    """Register an endpoint. Raises Conflict when its address was given to another one."""
    try:
        database.change(
            "INSERT INTO endpoints (id, network_id, container_id, ipv4, ipv6, mac, interface, host_interface, record) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                endpoint["Id"],
                endpoint["NetworkId"],
                endpoint["ContainerId"],
                endpoint["IPv4"] or None,
                endpoint["IPv6"] or None,
                endpoint["Mac"],
                endpoint["Interface"],
                endpoint["HostInterface"],
                jsontext.dumps(endpoint),
            ),
        )
    except IntegrityError:
        raise Conflict("Address already in use") from None


def endpoints_of(database: Database, container_id: str) -> "list[Endpoint]":
    """A container's endpoints, in the order of their interfaces."""
    rows = database.rows("SELECT record FROM endpoints WHERE container_id = ? ORDER BY interface", (container_id,))
    return [jsontext.loads(row[0]) for row in rows]


def endpoints_on(database: Database, network_id: str) -> "list[Endpoint]":
    """The endpoints of a network."""
    return [
        jsontext.loads(row[0])
        for row in database.rows("SELECT record FROM endpoints WHERE network_id = ?", (network_id,))
    ]


def occupied(database: Database) -> "list[str]":
    """The ids of the networks with a bridge that running containers are on."""
    rows = database.rows("SELECT DISTINCT network_id FROM endpoints WHERE host_interface <> ''")
    return [row[0] for row in rows]


def members(database: Database, network_id: str) -> "list[tuple[str, Endpoint]]":
    """The endpoints of a network, each with its container's present name."""
    return [
        (row[0], jsontext.loads(row[1]))
        for row in database.rows(
            "SELECT containers.name, endpoints.record FROM endpoints JOIN containers ON containers.id = container_id "
            "WHERE network_id = ? ORDER BY containers.created_ns",
            (network_id,),
        )
    ]


def used_ids(database: Database) -> "set[str]":
    """The networks that have endpoints."""
    return {row[0] for row in database.rows("SELECT DISTINCT network_id FROM endpoints")}


def replace_endpoint(database: Database, endpoint: "Endpoint") -> None:
    """Store a changed endpoint (its addresses stay)."""
    database.change("UPDATE endpoints SET record = ? WHERE id = ?", (jsontext.dumps(endpoint), endpoint["Id"]))


def all_endpoints(database: Database) -> "list[Endpoint]":
    """Every endpoint."""
    return [jsontext.loads(row[0]) for row in database.rows("SELECT record FROM endpoints ORDER BY interface")]


def opened(database: Database) -> "list[Endpoint]":
    """The endpoints with ports that all may call at their own address."""
    return [
        jsontext.loads(row[0]) for row in database.rows("SELECT record FROM endpoints WHERE record LIKE '%\"Open\"%'")
    ]


def delete_endpoint(database: Database, endpoint_id: str) -> bool:
    """Forget an endpoint; its address is free. False when it was gone already."""
    return bool(database.change("DELETE FROM endpoints WHERE id = ?", (endpoint_id,)))


_PORT = "SELECT protocol, host_ip, host_port, container_port, container_ip, container_id FROM ports"
_IN_ORDER = " ORDER BY container_port, protocol, host_port DESC, host_ip"  # as dockerd shows them


def _ports(rows: "list[tuple[str, str, int, int, str, str]]") -> "list[Port]":
    return [
        {
            "Protocol": row[0],
            "HostIP": row[1],
            "HostPort": row[2],
            "ContainerPort": row[3],
            "ContainerIP": row[4],
            "ContainerId": row[5],
        }
        for row in rows
    ]


def ports_of(database: Database, container_id: str) -> "list[Port]":
    """The ports that a container publishes, in order of the container's ports."""
    return _ports(database.rows(_PORT + " WHERE container_id = ?" + _IN_ORDER, (container_id,)))


def all_ports(database: Database) -> "list[Port]":
    """Every published port."""
    return _ports(database.rows(_PORT + _IN_ORDER))


def port_owner(database: Database, protocol: str, host_ip: str, port: int) -> "str | None":
    """The container that has this host port, on this address, on all addresses, or (when all are meant) on any."""
    family = "%:%" if ":" in host_ip else "%.%"
    row = database.row(
        "SELECT container_id FROM ports WHERE protocol = ? AND host_port = ? AND host_ip LIKE ? "
        "AND (host_ip = ? OR host_ip IN ('0.0.0.0', '::') OR ? IN ('0.0.0.0', '::'))",
        (protocol, port, family, host_ip, host_ip),
    )
    return row[0] if row else None


def insert_port(database: Database, port: "Port") -> None:
    """Register a published port. Raises IntegrityError when it is taken."""
    database.change(
        "INSERT INTO ports (container_id, protocol, host_ip, host_port, container_port, container_ip) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            port["ContainerId"],
            port["Protocol"],
            port["HostIP"],
            port["HostPort"],
            port["ContainerPort"],
            port["ContainerIP"],
        ),
    )


def delete_ports(database: Database, container_id: str) -> None:
    """Forget what a container publishes."""
    database.change("DELETE FROM ports WHERE container_id = ?", (container_id,))


def cursor(database: Database) -> int:
    """The host port that was given out last from the ephemeral range; 0 when none was."""
    row = database.row("SELECT value FROM meta WHERE key = 'port_cursor'")
    return int(row[0]) if row else 0


def set_cursor(database: Database, port: int) -> None:
    """Remember it."""
    database.change("INSERT OR REPLACE INTO meta (key, value) VALUES ('port_cursor', ?)", (str(port),))

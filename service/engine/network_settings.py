"""What inspect and list show of a container's networks: Docker's NetworkSettings, from the store.

Light to import: `docker ps` on a cold process reads it.
"""

from service import timestamps
from service.engine import network_mode
from service.network import ports
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.model.container import ContainerRecord, ContainerState
    from service.model.network import Endpoint, Port
    from service.settings import Settings
    from service.store.database import Database


class Summaries:
    """The endpoints and ports of all containers, read by three queries: a list of 1000 containers asks once."""

    __slots__ = ("_network_ids", "database", "endpoints", "ports")

    def __init__(self, database: "Database", container_id: str = "") -> None:
        self.endpoints: dict[str, list[Endpoint]] = {}
        self.ports: dict[str, list[Port]] = {}
        self._network_ids: dict[str, str] | None = None  # asked when first wanted
        self.database = database
        known = stored.endpoints_of(database, container_id) if container_id else stored.all_endpoints(database)
        for endpoint in known:
            self.endpoints.setdefault(endpoint["ContainerId"], []).append(endpoint)
        for port in stored.ports_of(database, container_id) if container_id else stored.all_ports(database):
            self.ports.setdefault(port["ContainerId"], []).append(port)

    def networks(self, record: "ContainerRecord", state: "ContainerState") -> "dict[str, dict[str, Any]]":
        """Docker's NetworkSettings.Networks: by network name, the EndpointSettings.

        A container that was never started has not been told its networks' ids yet.
        """
        shown = {}
        for name, asked in network_mode.asked_networks(record).items():
            shown[name] = _settings(asked, None)
            if state["started_at"] != timestamps.NEVER:
                shown[name]["NetworkID"] = self._network_id(name)
                if name not in ("bridge", "host", "none"):
                    shown[name]["DNSNames"] = network_mode.dns_names(record, asked)
        for endpoint in self.endpoints.get(record["Id"], ()):
            shown[endpoint["NetworkName"]] = _settings(endpoint["Settings"], endpoint)
            if endpoint["DNSNames"] is not None:  # it may have been renamed since its start
                names = network_mode.dns_names(record, endpoint["Settings"])
                shown[endpoint["NetworkName"]]["DNSNames"] = names
        return shown

    def _network_id(self, name: str) -> str:
        if self._network_ids is None:
            self._network_ids = stored.ids_by_name(self.database)
        return self._network_ids.get(name, "")

    def port_list(self, record: "ContainerRecord") -> "list[dict[str, Any]]":
        """Docker's Ports of `GET /containers/json`: published ones with their host side, exposed ones without."""
        shown: list[dict[str, Any]] = []
        exposed: list[dict[str, Any]] = []
        for key, bindings in self.port_map(record).items():
            number, protocol = ports.parse_port(key)
            for binding in bindings or ():
                shown.append(
                    {
                        "IP": binding["HostIp"],
                        "PrivatePort": number,
                        "PublicPort": int(binding["HostPort"]),
                        "Type": protocol,
                    }
                )
            if not bindings:
                exposed.append({"PrivatePort": number, "Type": protocol})
        return shown + exposed

    def port_map(self, record: "ContainerRecord") -> "dict[str, list[dict[str, str]] | None]":
        """Docker's NetworkSettings.Ports of inspect: "80/tcp" → host side, or None when it is only exposed."""
        if record["Id"] not in self.endpoints or network_mode.mode_of(record) in ("host", "none"):
            return {}
        shown: dict[str, list[dict[str, str]] | None] = {
            f"{number}/{protocol}": None for number, protocol in _exposed(record)
        }
        for port in self.ports.get(record["Id"], ()):
            key = f"{port['ContainerPort']}/{port['Protocol']}"
            known = shown.get(key) or []
            known.append({"HostIp": port["HostIP"], "HostPort": str(port["HostPort"])})
            shown[key] = known
        for port_text, asked in (record["HostConfig"].get("PortBindings") or {}).items():
            number, protocol = ports.parse_port(port_text)
            listed = shown.get(f"{number}/{protocol}")
            if listed and len(asked or ()) > 1:
                listed.sort(key=lambda given, asked=asked: -_place(given, asked))  # type: ignore[misc]  # its default is not inferred
        return shown


def _place(given: "dict[str, str]", asked: "list[dict[str, str]]") -> int:
    """Which of the bindings asked for a given one comes from: dockerd shows the last one first, and `docker port` and
    compose take the first that is shown."""
    for place, wish in enumerate(asked):
        first, _, last = (wish.get("HostPort") or "0").partition("-")
        any_address = not wish.get("HostIp") and given["HostIp"] in ("0.0.0.0", "::")
        same_address = any_address or wish.get("HostIp", "").strip("[]") == given["HostIp"]
        if same_address and (int(first) == 0 or int(first) <= int(given["HostPort"]) <= int(last or first)):
            return place
    return 0


def _exposed(record: "ContainerRecord") -> "list[tuple[int, str]]":
    return sorted(
        ports.parse_port(port)
        for port in {**(record["Config"].get("ExposedPorts") or {}), **(record["HostConfig"].get("PortBindings") or {})}
    )


def _settings(asked: "dict[str, Any]", endpoint: "Endpoint | None") -> "dict[str, Any]":
    """Docker's EndpointSettings: as asked for, with what the start gave."""
    return {
        "IPAMConfig": asked.get("IPAMConfig"),
        "Links": asked.get("Links"),
        "Aliases": asked.get("Aliases"),
        "MacAddress": endpoint["Mac"] if endpoint else asked.get("MacAddress") or "",
        "DriverOpts": asked.get("DriverOpts"),
        "GwPriority": asked.get("GwPriority") or 0,
        "NetworkID": endpoint["NetworkId"] if endpoint else "",
        "EndpointID": endpoint["Id"] if endpoint else "",
        "Gateway": endpoint["Gateway"] if endpoint else "",
        "IPAddress": endpoint["IPv4"] if endpoint else "",
        "IPPrefixLen": endpoint["IPv4Prefix"] if endpoint else 0,
        "IPv6Gateway": endpoint["IPv6Gateway"] if endpoint else "",
        "GlobalIPv6Address": endpoint["IPv6"] if endpoint else "",
        "GlobalIPv6PrefixLen": endpoint["IPv6Prefix"] if endpoint else 0,
        "DNSNames": endpoint["DNSNames"] if endpoint else None,
    }


def settings_for_inspect(
    settings: "Settings", database: "Database", record: "ContainerRecord", state: "ContainerState"
) -> "dict[str, Any]":
    """Docker's NetworkSettings of a container (operation ContainerInspect, API 1.51)."""
    summaries = Summaries(database, record["Id"])
    present = summaries.endpoints.get(record["Id"], [])
    shown = summaries.networks(record, state)
    top = shown.get("bridge") or _settings({}, None)
    key = ""
    if present and state["status"] != "created":
        key = f"{settings.run}/netns/" + ("default" if network_mode.mode_of(record) == "host" else record["Id"])
    return {
        "Bridge": "",
        "SandboxID": present[0]["SandboxId"] if present else "",
        "SandboxKey": key,
        "Ports": summaries.port_map(record),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": top["EndpointID"],
        "Gateway": top["Gateway"],
        "GlobalIPv6Address": top["GlobalIPv6Address"],
        "GlobalIPv6PrefixLen": top["GlobalIPv6PrefixLen"],
        "IPAddress": top["IPAddress"],
        "IPPrefixLen": top["IPPrefixLen"],
        "IPv6Gateway": top["IPv6Gateway"],
        "MacAddress": top["MacAddress"],
        "Networks": shown,
    }

"""Which networks a container asked to be on. A room of its own: a list on a cold process needs no more than this."""

from service.ids import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.model.container import ContainerRecord
    from service.store.database import Database

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}  # name: driver


def mode_of(record: "Mapping[str, Any]") -> str:
    """The container's network mode, `default` read as what it means: bridge. Empty with NetworkDisabled.

    Unlike `none`, that is no network to be on: there is a loopback interface, and inspect shows nothing.
    """
    if record["Config"].get("NetworkDisabled"):
        return ""
    mode = record["HostConfig"].get("NetworkMode") or "default"
    return "bridge" if mode == "default" else mode


def dns_names(record: "ContainerRecord", asked: "dict[str, Any]") -> "list[str]":
    """What the other containers of a user-defined network call it."""
    names = [record["Name"], *(asked.get("Aliases") or ()), short(record["Id"])]
    return list(dict.fromkeys([*names, record["Config"].get("Hostname") or short(record["Id"])]))


def asked_networks(record: "ContainerRecord") -> "dict[str, dict[str, Any]]":
    """The networks that a container asked to be on, with what it asked of each."""
    mode = mode_of(record)
    if not mode or mode.startswith("container:"):
        return {}
    return {name: value or {} for name, value in record["EndpointsConfig"].items()}


def wanted(
    database: "Database", host: "Mapping[str, Any]", endpoints: "Mapping[str, dict[str, Any] | None]"
) -> "dict[str, dict[str, Any]]":
    """The networks of a new container by name: those that a create names, or else the one of its mode.

    One that is not there (yet) keeps the name that the request gave it.
    """
    from service.errors import InvalidParameter, NotFound
    from service.store import networks

    if host["NetworkMode"].startswith("container:"):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name, asked in (endpoints or {host["NetworkMode"]: {}}).items():
        try:
            known = networks.find(database, "bridge" if name == "default" else name)["Name"]
        except (NotFound, InvalidParameter):
            known = name
        found[known] = asked or {}
    return found


def has_names(record: "ContainerRecord") -> bool:
    """Whether it is on a network whose containers find each other by name: one that a user made."""
    return any(name not in PREDEFINED for name in asked_networks(record))

"""Namespaces: what IpcMode, PidMode, UTSMode, NetworkMode and CgroupnsMode may say, and whose `container:` names."""

import os

from service.errors import InvalidParameter, NotFound
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.store.database import Database

PREFIX = "container:"


def joins(mode: str) -> bool:
    """Whether a mode is `container:` with a name after it."""
    return mode.startswith(PREFIX) and len(mode) > len(PREFIX)


def check_network(config: "dict[str, Any]", host: "dict[str, Any]") -> None:
    """What cannot be asked for together with another container's network, or the host's names (moby: runconfig).

    `config` is the request's, not merged with the image's. Raises InvalidParameter.
    """
    mode, shared = host["NetworkMode"], host["NetworkMode"].partition(":")[0] == "container"
    if shared and not joins(mode):
        raise InvalidParameter("invalid network mode: invalid container format container:<name|id>")
    for asked, conflict in (
        (config.get("Hostname") and shared, "hostname and the network mode"),
        (
            host["Links"] and shared,
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (host["Dns"] and shared, "dns and the network mode"),
        (host["ExtraHosts"] and shared, "custom host-to-IP mapping and the network mode"),
        (
            (host["PortBindings"] or host["PublishAllPorts"]) and shared,
            "port publishing and the container type network mode",
        ),
        (
            config.get("Hostname") not in (None, "", os.uname().nodename) and host["UTSMode"] == "host",
            "hostname and the UTS mode",
        ),
        (
            host["Links"] and mode == "host",
            "host type networking can't be used with links. This would result in undefined behavior",
        ),
    ):
        if asked:
            raise InvalidParameter(f"conflicting options: {conflict}")


def host_name(host: "dict[str, Any]", own: str) -> str:
    """The host name of a container that asks for none: `own`, or the machine's with its network.

    Empty where it has none of its own and asking for one would be refused: what inspect shows can be created again.
    """
    if host["NetworkMode"] == "host":
        return os.uname().nodename
    return "" if joins(host["NetworkMode"]) or host["UTSMode"] == "host" else own


def check_exposed(asked: "dict[str, Any]", image: "dict[str, Any]", host: "dict[str, Any]") -> None:
    """Ports of one's own are not exposed on another container's network. Raises InvalidParameter.

    The image's are let through: inspect shows them, and what inspect shows can be created again.
    """
    if joins(host["NetworkMode"]) and set(asked.get("ExposedPorts") or ()) - set(image.get("ExposedPorts") or ()):
        raise InvalidParameter("conflicting options: port exposing and the container type network mode")


def check_modes(host: "dict[str, Any]", cgroup_version: int) -> None:
    """Raise InvalidParameter for a mode that does not exist; fill in the default of CgroupnsMode."""
    mode = host["IpcMode"]
    if mode not in ("none", "private", "shareable", "host") and not joins(mode):
        raise InvalidParameter(f"invalid IPC mode: {mode}")
    if host["PidMode"] not in ("", "host") and not joins(host["PidMode"]):
        raise InvalidParameter(f"invalid PID mode: {host['PidMode']}")
    if host["UTSMode"] not in ("", "host"):
        raise InvalidParameter(f"invalid UTS mode: {host['UTSMode']}")
    if host["UsernsMode"] not in ("", "host", "private"):  # ids are never remapped here: all three mean the same
        raise InvalidParameter(f"invalid user namespace mode: {host['UsernsMode']}")
    if host["Cgroup"] and not joins(host["Cgroup"]):
        raise InvalidParameter(f"invalid cgroup: {host['Cgroup']}")
    if not host["CgroupnsMode"]:
        host["CgroupnsMode"] = "private" if cgroup_version == 2 else "host"
    elif host["CgroupnsMode"] not in ("private", "host"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host['CgroupnsMode']}")


def adopt(database: "Database", host: "dict[str, Any]") -> None:
    """Write the ids of the containers that are joined over their names: a rename must not part them.

    Raises InvalidParameter when there is none whose IPC or pid namespace could be joined. A missing network's owner
    is an error of the start, as with dockerd.
    """
    for key in ("PidMode", "IpcMode", "NetworkMode"):
        if not joins(host[key]):
            continue
        try:
            host[key] = PREFIX + containers.resolve(database, host[key].removeprefix(PREFIX))
        except NotFound as error:
            if key != "NetworkMode":
                raise InvalidParameter(error.message) from None

"""`inspect`: a stored container in Docker's shape (API: ContainerInspect). Only reads; the list has its own module."""

from service.engine import links, network_settings
from service.errors import InvalidParameter, NotFound
from service.store import containers, execs, health

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.engine.engine import Engine
    from service.model.container import ContainerRecord, ContainerState


def inspect(engine: "Engine", reference: str, *, size: bool = False) -> "dict[str, Any]":
    """Everything about one container. Raises NotFound."""
    from service.content import rootfs
    from service.runtime import apparmor, security

    settings = engine.settings
    container = containers.find(engine.store, reference)
    record, state = container["record"], container["state"]
    provided = _provided_files(engine, record) if state["generation"] else {}
    document: dict[str, Any] = {
        "Id": record["Id"],
        "Created": record["Created"],
        "Path": record["Path"],
        "Args": record["Args"],
        "State": _state(state),
        "Image": record["Image"],
        "ResolvConfPath": provided.get("resolv.conf", ""),
        "HostnamePath": provided.get("hostname", ""),
        "HostsPath": provided.get("hosts", ""),
        # conmon's format is not json-file's: a name here would promise a format that the file does not have
        "LogPath": "",
        "Name": f"/{record['Name']}",
        "RestartCount": state["restart_count"],
        "Driver": "overlay2",
        "Platform": record["Platform"],
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": security.apparmor_profile(record["HostConfig"], apparmor.default()),
        "ExecIDs": execs.live_ids(engine.store, record["Id"]) or None,
        "HostConfig": {**record["HostConfig"], "Links": links.shown(engine.store, record)},
        "GraphDriver": {
            "Data": rootfs.graph_data(settings, record["Id"], record["Layers"]),
            "Name": "overlay2",
        },
        "Mounts": [mount_point(mount) for mount in record["Mounts"]],
        "Config": _config(record),
        "NetworkSettings": network_settings.settings_for_inspect(settings, engine.store, record, state),
    }
    known = health.get(engine.store, record["Id"])
    if known is not None:
        document["State"]["Health"] = known
    if size:
        document["SizeRw"], document["SizeRootFs"] = sizes(engine, record)
    return document


def _config(record: "ContainerRecord") -> "dict[str, Any]":
    """With the MAC address that was asked for on the main network, which once was the container's."""
    main = record["EndpointsConfig"].get(record["HostConfig"]["NetworkMode"]) or {}
    if not main.get("MacAddress") or record["HostConfig"]["NetworkMode"] in ("host", "none"):
        return record["Config"]
    return {**record["Config"], "MacAddress": main["MacAddress"]}


def _provided_files(engine: "Engine", record: "ContainerRecord") -> dict[str, str]:
    """The host's path of each file that Docker provides in /etc: of the network's owner when that is shared."""
    met: set[str] = set()
    while record["HostConfig"]["NetworkMode"].startswith("container:"):
        if record["Id"] in met:
            return {}
        met.add(record["Id"])
        try:
            record = containers.find(engine.store, record["HostConfig"]["NetworkMode"].partition(":")[2])["record"]
        except (NotFound, InvalidParameter):
            return {}  # it was removed
    folder = engine.settings.container_root(record["Id"])
    mounted = {mount["Destination"]: mount["Source"] for mount in record["Mounts"]}
    return {name: mounted.get(f"/etc/{name}") or f"{folder}/{name}" for name in ("resolv.conf", "hostname", "hosts")}


def _state(state: "ContainerState") -> "dict[str, Any]":
    status = state["status"]
    return {
        "Status": status,
        "Running": status in ("running", "paused", "restarting"),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": state["oom_killed"],
        "Dead": status == "dead",
        "Pid": state["pid"],
        "ExitCode": state["exit_code"],
        "Error": state["error"],
        "StartedAt": state["started_at"],
        "FinishedAt": state["finished_at"],
    }


def mount_point(mount: "Mapping[str, Any]") -> "dict[str, Any]":
    """A mount as inspect and the list show it (API: MountPoint)."""
    shown = {"Type": mount["Type"]}
    if mount.get("Name"):
        shown["Name"] = mount["Name"]
    shown["Source"], shown["Destination"] = mount["Source"], mount["Destination"]
    if mount.get("Driver"):
        shown["Driver"] = mount["Driver"]
    return {**shown, "Mode": mount["Mode"], "RW": mount["RW"], "Propagation": mount["Propagation"]}


def sizes(engine: "Engine", record: "ContainerRecord") -> tuple[int, int]:
    """Bytes in the writable layer, and in all layers together."""
    from service.engine import images
    from service.kernel.tree import disk_usage

    written = disk_usage(engine.settings.container_root(record["Id"]) + "/diff")
    try:
        below = images.find(engine, record["Image"]).size if record["Image"] else 0
    except NotFound:
        below = 0
    return written, written + below

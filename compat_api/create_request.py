"""What a create request of any API version means today: older ones are read with the rules that they were written for.

Which version has what stands in `versions`; here is what follows from it. The request is edited in place.
"""

from compat_api.versions import apply, has
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from compat_api.versions import Version

    Settings = dict[str, Any]

ENDPOINT_SYSCTLS = "com.docker.network.endpoint.sysctls"  # the driver option that carries an interface's own sysctls


def as_newest(request: "Settings", version: "Version") -> list[str]:
    """Make the body of a ContainerCreate what the newest version would say. Returns the warnings of doing so.

    Raises InvalidParameter where a version refuses what it does not have (moby: the create route's order and words).
    """
    host = request["HostConfig"] = request.get("HostConfig") or {}
    apply("ContainerCreateRequest", request, version)
    networking = request["NetworkingConfig"] = request.get("NetworkingConfig") or {}
    endpoints = networking["EndpointsConfig"] = networking.get("EndpointsConfig") or {}
    mounts = [mount for mount in host.get("Mounts") or () if mount]
    if (host.get("NetworkMode") or "default") == "default":
        host["NetworkMode"] = "bridge"
        if "default" in endpoints:
            endpoints["bridge"] = endpoints.pop("default")
    _defaults(request, host, version)
    _mounts(mounts, version)
    if len(endpoints) > 1 and not has("several endpoints at create", version):
        names = ", ".join(endpoints)
        raise InvalidParameter(f"Container cannot be created with multiple network endpoints: {names}")
    if not has("gateway priority", version):
        for endpoint in filter(None, endpoints.values()):
            endpoint.pop("GwPriority", None)
    if any(mount.get("Type") == "image" for mount in mounts) and not has("image mounts", version):
        raise InvalidParameter('Mount type "Image" needs API v1.48 or newer')
    warnings = [
        _volume_driver(host, mounts, version),
        _mac_address(request, version),
        _sysctls(request, version),
        _empty_port_bindings(host, version),
    ]
    return [warning for warning in warnings if warning]


def _defaults(request: "Settings", host: "Settings", version: "Version") -> None:
    """What was not known is not heard, and what is left out means what it meant then."""
    from service.kernel import cgroup

    if not host.get("IpcMode") and not has("private ipc by default", version):
        host["IpcMode"] = "shareable"
    if not (host.get("CgroupnsMode") or has("private cgroup namespace by default", version)):
        host["CgroupnsMode"] = "host" if cgroup.detect().version == 1 else ""
    for field, what in (
        ("AutoRemove", "automatic removal by the engine"),
        ("ConsoleSize", "console size at create"),
        ("Annotations", "annotations"),
    ):
        if not has(what, version):
            host.pop(field, None)
    if request.get("Healthcheck") and not has("health start interval", version):
        request["Healthcheck"].pop("StartInterval", None)


def _mounts(mounts: "list[Settings]", version: "Version") -> None:
    for mount in mounts:
        kind, bind = mount.get("Type") or "", mount.get("BindOptions")
        if bind:
            for field, what in (("NonRecursive", "non-recursive binds"), ("CreateMountpoint", "bind sources made")):
                if not has(what, version):
                    bind.pop(field, None)
            if kind == "bind" and bind.get("ReadOnlyForceRecursive") and not has("recursive read-only", version):
                raise InvalidParameter("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
        for field, owner in (("VolumeOptions", "volume"), ("BindOptions", "bind"), ("TmpfsOptions", "tmpfs")):
            if mount.get(field) is None or kind == owner:
                continue
            if has("mount options fit their type", version):
                raise InvalidParameter(f'{field} must not be specified on mount type "{kind}"')
            if field != "BindOptions":
                del mount[field]
        if (mount.get("VolumeOptions") or {}).get("Subpath") and not has("volume subpaths", version):
            raise InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")


def _volume_driver(host: "Settings", mounts: "list[Settings]", version: "Version") -> str:
    if not host.get("VolumeDriver") or not has("warning of an unused volume driver", version):
        return ""
    for mount in mounts:
        options = mount.get("VolumeOptions") or {}
        if mount.get("Type") == "volume" and not (options.get("DriverConfig") or {}).get("Name"):
            return (
                "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. "
                "Use '--mount type=volume,volume-driver=...' instead"
            )
    return ""


def _mac_address(request: "Settings", version: "Version") -> str:
    """A container's MAC address is one of its endpoints' today; the container-wide one goes to the main network's."""
    host, endpoints = request["HostConfig"], request["NetworkingConfig"]["EndpointsConfig"]
    address = request.pop("MacAddress", None)
    if address and has("mac address per endpoint only", version):
        raise InvalidParameter(
            "container-wide MAC address no longer supported; use endpoint-specific MAC address instead"
        )
    per_endpoint = has("mac address per endpoint", version)
    has_network = host["NetworkMode"] not in ("host", "none") and not host["NetworkMode"].startswith("container:")
    if not address:
        for endpoint in filter(None, endpoints.values()) if not per_endpoint else ():
            endpoint.pop("MacAddress", None)
        return ""
    if has_network:
        try:
            endpoint = _main_endpoint(host["NetworkMode"], endpoints, version)
        except InvalidParameter as error:
            raise InvalidParameter(
                f"unable to migrate container-wide MAC address to a specific network: {error.message}"
            ) from None
        if per_endpoint and endpoint.get("MacAddress") not in (None, "", address):
            raise InvalidParameter(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, "
                "or be left empty"
            )
        endpoint["MacAddress"] = address
    elif not per_endpoint:
        raise InvalidParameter("conflicting options: mac-address and the network mode")
    if not per_endpoint:
        return ""
    return "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."


def _sysctls(request: "Settings", version: "Version") -> str:
    """A sysctl of eth0 belongs to the main network's endpoint: there it is, whatever the interface will be called."""
    host, endpoints = request["HostConfig"], request["NetworkingConfig"]["EndpointsConfig"]
    if host["NetworkMode"] == "host" or host["NetworkMode"].startswith("container:"):
        return ""
    moved, words = [], []
    for name, value in (host.get("Sysctls") or {}).items():
        parts = name.split(".", 4)
        if len(parts) < 5 or parts[0] != "net" or not parts[3].startswith("eth"):
            continue
        if has("sysctls of interfaces per endpoint only", version):
            raise InvalidParameter(
                f'interface specific sysctl setting "{name}" must be supplied using driver option '
                f"'{ENDPOINT_SYSCTLS}'"
            )
        if parts[3] != "eth0":
            raise InvalidParameter(
                f"unable to determine network endpoint for sysctl {name}, use driver option '{ENDPOINT_SYSCTLS}' "
                "to set per-interface sysctls"
            )
        moved.append(name)
        words.append(f"net.{parts[1]}.{parts[2]}.IFNAME.{parts[4]}={value}")
    if not moved:
        return ""
    try:
        endpoint = _main_endpoint(host["NetworkMode"], endpoints, version)
    except InvalidParameter as error:
        raise InvalidParameter(f"unable to find a network for sysctl {moved[0]}: {error.message}") from None
    options = endpoint["DriverOpts"] = endpoint.get("DriverOpts") or {}
    text = ",".join(words)
    options[ENDPOINT_SYSCTLS] = ",".join(filter(None, (text, options.get(ENDPOINT_SYSCTLS, ""))))
    for name in moved:
        del host["Sysctls"][name]
    return f'Migrated sysctl "{",".join(moved)}" to DriverOpts{{"{ENDPOINT_SYSCTLS}":"{text}"}}.'


def _empty_port_bindings(host: "Settings", version: "Version") -> str:
    """A port with an empty list of bindings is published somewhere, as if a blank one had been given."""
    if not has("warning of empty port bindings", version):
        return ""
    empty = [port for port, bindings in (host.get("PortBindings") or {}).items() if not bindings]
    for port in empty:
        host["PortBindings"][port] = [{}]
    if not empty:
        return ""
    named = ", ".join(port if "/" in port else f"{port}/tcp" for port in empty)
    return (
        f"Following container port(s) have an empty list of port-bindings: {named}. "
        "Such bindings will be discarded in a future version."
    )


def _main_endpoint(mode: str, endpoints: "Settings", version: "Version") -> "Settings":
    """The endpoint of the network that NetworkMode names, made when no endpoint was named at all.

    Raises InvalidParameter when it cannot be told which one that is.
    """
    if not endpoints:
        endpoints[mode] = {}
    elif not has("several endpoints at create", version):
        mode = next(iter(endpoints))
    if mode not in endpoints:
        raise InvalidParameter(
            "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks"
        )
    endpoints[mode] = endpoints[mode] or {}
    found: Settings = endpoints[mode]
    return found

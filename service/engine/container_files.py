"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: written for each start, changed while it runs.

They lie in the container's directory below the root and are bound into it; a container that shares another's network
has the other's files, as its own. Synchronous and light to import: the exit hook starts containers, too.
"""

import fcntl
import functools
import os

from service import daemon_json
from service.engine import links
from service.ids import short
from service.network import dns, hosts
from service.store import networks as stored

_LARGEST_HOSTS = 1 << 20  # bytes; the container may write to its own as it likes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from service.engine.endpoints import Plan
    from service.model.container import ContainerRecord
    from service.model.network import Endpoint
    from service.settings import Settings
    from service.store.database import Database

    Entries = list[tuple[str, str]]


def write(settings: "Settings", plan: "Plan") -> None:
    """Write all three for a start. Raises Conflict when a container that is linked does not run; OSError."""
    if plan.files_of:
        return  # another's are used
    record, folder = plan.record, settings.container_root(plan.record["Id"])
    host_config, on_host = record["HostConfig"], not plan.netns_path
    hostname = record["Config"].get("Hostname") or (os.uname().nodename if on_host else short(record["Id"]))
    _replace(folder + "/hostname", hostname + "\n")
    if record["Config"].get("NetworkDisabled"):
        return  # the image's own files are as good
    entries = hosts.extra_entries(host_config.get("ExtraHosts") or (), _host_gateways(plan.database))
    base = hosts.LOCAL if entries or not on_host else _read("/etc/hosts")
    if not on_host:
        entries += links.entries(plan.database, record, plan.endpoints)
        for endpoint in plan.endpoints:
            entries += _own(record, endpoint)
    _replace(folder + "/hosts", hosts.hosts_text(entries, base))
    _replace(folder + "/resolv.conf", _resolv(settings, host_config, on_host, plan.endpoints))
    announce(settings, plan.database, record, plan.endpoints)


def joined(settings: "Settings", database: "Database", record: "ContainerRecord", endpoint: "Endpoint") -> None:
    """A container that runs has joined a network: its addresses there."""
    entries = _own(record, endpoint)
    _edit(settings, record["Id"], lambda text: hosts.with_entries(hosts.without_entries(text, entries), entries))
    if endpoint["DNSNames"] is not None:  # the first one with names, perhaps: then it has a name server from now on
        present = stored.endpoints_of(database, record["Id"])
        path = settings.container_root(record["Id"]) + "/resolv.conf"
        if f"nameserver {dns.ADDRESS}\n" not in _read(path):
            _replace(path, _resolv(settings, record["HostConfig"], False, present))
    announce(settings, database, record, [endpoint])


def left(settings: "Settings", record: "ContainerRecord", endpoint: "Endpoint") -> None:
    """A container that runs has left a network: its addresses there mean nothing any more."""
    _edit(settings, record["Id"], lambda text: hosts.without_entries(text, _own(record, endpoint)))


def unlinked(settings: "Settings", container_id: str, alias: str) -> None:
    """A container does not call another one by this alias any more."""
    _edit(settings, container_id, lambda text: hosts.without_alias(text, alias))


def announce(
    settings: "Settings", database: "Database", record: "ContainerRecord", endpoints: "Sequence[Endpoint]"
) -> None:
    """Tell the containers that call this one by an alias where it is now."""
    for container_id, alias, entries in links.callers(database, record, endpoints):
        _edit(settings, container_id, functools.partial(hosts.with_alias, alias=alias, entries=entries))


def _own(record: "ContainerRecord", endpoint: "Endpoint") -> "Entries":
    config = record["Config"]
    names = hosts.own_names(config.get("Hostname") or short(record["Id"]), config.get("Domainname") or "")
    return [(address, names) for address in (endpoint["IPv4"], endpoint["IPv6"]) if address]


def _resolv(
    settings: "Settings", host_config: "Mapping[str, Any]", on_host: bool, endpoints: "Sequence[Endpoint]"
) -> str:
    said = daemon_json.readable(settings.daemon_json)
    text = _read("/etc/resolv.conf")
    if not on_host and dns.only_resolved(text):
        text = _read(dns.SYSTEMD_RESOLVED) or text
    named = any(endpoint["DNSNames"] is not None for endpoint in endpoints)
    return dns.resolv_text(
        text,
        servers=(dns.ADDRESS,) if named else host_config.get("Dns") or said.dns,
        search=host_config.get("DnsSearch") or said.dns_search,
        options=host_config.get("DnsOptions") or said.dns_options,
        own_namespace=not on_host,
        ipv6=any(endpoint["IPv6"] for endpoint in endpoints),
        named=named,
    )


def _host_gateways(database: "Database") -> list[str]:
    """The addresses of this machine on the default bridge."""
    network = stored.by_name(database, "bridge")
    pools = (network["IPAM"]["Config"] if network else None) or ()
    return [pool["Gateway"].partition("/")[0] for pool in pools if pool.get("Gateway")]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _replace(path: str, text: str) -> None:
    """In place: a container that still has the file mounted sees what is written."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.fchmod(fd, 0o644)  # whatever the umask is: every user of the container reads it
        os.write(fd, text.encode("utf-8", "surrogateescape"))
    finally:
        os.close(fd)


def _edit(settings: "Settings", container_id: str, change: "Callable[[str], str]") -> None:
    """Change /etc/hosts of a container that may run, in place, one process at a time; what the user wrote stays."""
    folder = settings.container_root(container_id)
    try:
        # not the file is locked, but its folder: the container has the file open, and could hold us up for ever
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # it is gone
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fd = os.open(folder + "/hosts", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(fd, "r+", encoding="utf-8", errors="surrogateescape", newline="") as file:
            if os.fstat(fd).st_size > _LARGEST_HOSTS:
                return  # the container has made something else of it
            text = file.read(_LARGEST_HOSTS)
            changed = change(text)
            if changed != text:
                file.seek(0)
                file.write(changed)
                file.truncate()
    except FileNotFoundError:
        return  # it was never started, or has another's
    finally:
        os.close(lock)

"""`create`: a container is decided and registered; nothing runs yet (API: ContainerCreate)."""

from service import bell, daemon_json, ids, timestamps
from service.engine import (
    container_config,
    events,
    host_config,
    links,
    mount_requests,
    mounts,
    names,
    namespaces,
    network_mode,
    unsupported,
)
from service.errors import Conflict, InvalidParameter, NotFound
from service.store import containers
from service.store import images as stored_images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.engine.engine import Engine
    from service.model.container import ContainerRecord


LEASED = "container:"  # and a container's id: a lease that says who is to remove it


def check_name(name: str) -> str:
    """The name without its slash. Raises InvalidParameter unless it may name a container."""
    bare = name.removeprefix("/")
    start = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    if len(bare) < 2 or bare[0] not in start or any(c not in start + "_.-" for c in bare):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare


def create(
    engine: "Engine",
    name: str,
    request: "dict[str, Any]",
    platform: str = "",
    *,
    recursive_read_only: bool = True,
    lease: str = "",
    volatile: bool = False,
    from_nothing: bool = False,
) -> tuple[str, list[str]]:
    """Create a container from a request body of ContainerCreate (as a dict, absent keys absent). Blocking.

    `lease`: who is to remove it (an owner of leases), even when killed. `volatile`: what it writes need not outlive the
    machine. `from_nothing`: there is no image.
    `recursive_read_only`: what is mounted below a read-only bind is read-only too, where the request does not say.
    Returns its id and warnings. Raises NotFound for an unknown image, Conflict for a name in use, InvalidParameter for
    anything the request cannot mean; then nothing was changed.
    """
    from service.content import rootfs
    from service.engine import copy_up, images, volumes
    from service.kernel import cgroup
    from service.runtime import facts

    settings, store = engine.settings, engine.store
    if name:
        name = check_name(name)
        owner = containers.name_owner(store, name)
        if owner:
            raise containers.name_taken(name, owner)
    if not any(request.values()):
        raise InvalidParameter("config cannot be empty in order to create a container")
    if not any(request.get(key) for key in ("Image", "Cmd", "Entrypoint")):
        raise InvalidParameter("no command specified")
    asked = dict(request)
    host = asked.pop("HostConfig", None) or {}
    networking = asked.pop("NetworkingConfig", None) or {}
    container_config.check(asked)
    warnings: list[str] = []
    systemd_cgroups = facts.uses_systemd(settings, cgroup.detect())
    defaults = daemon_json.read(settings.daemon_json)
    host = host_config.complete(host, warnings, systemd_cgroups=systemd_cgroups, config=asked, defaults=defaults)
    mounts.check(host)
    if host.get("Mounts"):
        host["Mounts"] = [mount_requests.shown(mount) for mount in host["Mounts"]]
    namespaces.adopt(store, host)
    if networking.get("EndpointsConfig"):
        from service.engine import endpoint_settings

        endpoint_settings.check_config(store, networking["EndpointsConfig"])
    image = None if from_nothing else images.find(engine, asked.get("Image") or "", platform)
    of_image = image.config.get("config") or {} if image else {}
    namespaces.check_exposed(asked, of_image, host)
    config = container_config.merge(asked, of_image)
    if image and not platform:
        warnings += images.foreign(image)
    warnings += unsupported.warnings(host)
    container_id = ids.new_id()
    if not config["Hostname"]:
        config["Hostname"] = namespaces.host_name(host, ids.short(container_id))
    command = [*(config["Entrypoint"] or []), *(config["Cmd"] or [])]
    if not command:
        raise InvalidParameter("no command specified")
    linked = links.decide(store, host)
    planned = mounts.plan(engine, container_id, config, host, recursive_read_only=recursive_read_only)
    record: ContainerRecord = {
        "Id": container_id,
        "Name": name,
        "Created": timestamps.now(),
        "Path": command[0],
        "Args": command[1:],
        "Image": image.id if image else "",
        "Config": config,
        "HostConfig": host,
        "EndpointsConfig": network_mode.wanted(store, host, networking.get("EndpointsConfig") or {}),
        "Mounts": planned.mounts,
        "Layers": image.layers if image else [],
        "Platform": "linux",
    }
    if volatile:
        record["Volatile"] = True
    if defaults.no_new_privileges:
        record["NoNewPrivileges"] = True
    with volumes.exclusively(settings, planned.volumes):
        try:
            mounts.make_volumes(engine, planned)
            rootfs.prepare(settings, container_id)
            copy_up.populate(engine, record, planned)
            _register(engine, record, planned, linked, lease)
        except BaseException:
            rootfs.remove(settings, container_id)
            mounts.forget(engine, planned)
            raise
    bell.ring(settings.bell)
    return container_id, warnings


def _register(
    engine: "Engine",
    record: "ContainerRecord",
    planned: "mounts.Plan",
    linked: "dict[str, ContainerRecord]",
    lease: str,
) -> None:
    """The one commit of this verb. A container without a name draws one until it is free."""
    unnamed = not record["Name"]
    for attempt in range(100):
        if unnamed:
            record["Name"] = names.draw(attempt)
            if containers.name_owner(engine.store, record["Name"]):
                continue
        try:
            with engine.store.write():
                for image, typed in _images(record).items():
                    if not stored_images.exists(engine.store, image):  # removed since we looked
                        raise NotFound(f"No such image: {typed}")
                mounts.register(engine, planned)
                containers.insert(engine.store, record, timestamps.nanoseconds(record["Created"]))
                links.register(engine.store, record, linked)
                if lease:
                    stored_images.lease(engine.store, lease, [LEASED + record["Id"]], timestamps.now_ns())
                events.container(engine.store, record, "create")
            return
        except Conflict:
            if not unnamed:
                raise
    raise Conflict("could not find a free name for the container")


def _images(record: "ContainerRecord") -> dict[str, str]:
    """The images that a container needs, its own and those it mounts: id → name."""
    mounted = {mount["Image"]: mount["Name"] for mount in record["Mounts"] if mount["Type"] == "image"}
    own = {record["Image"]: record["Config"]["Image"]} if record["Image"] else {}
    return {**mounted, **own}

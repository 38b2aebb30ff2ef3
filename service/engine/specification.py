"""The OCI config of one start: what other containers and the host add to a stored container, then `runtime.spec`."""

import os

from service import ids
from service.engine import health
from service.errors import Conflict, InvalidParameter, NotFound
from service.runtime import bundle, facts, shm, spec
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.engine.endpoints import Plan
    from service.model.container import Container, ContainerRecord
    from service.settings import Settings
    from service.store.database import Database

_SHARED = (("ipc", "IpcMode"), ("pid", "PidMode"))


def write(settings: "Settings", database: "Database", record: "ContainerRecord", plan: "Plan", rootfs: str) -> str:
    """Write the bundle of a start; its directory. Raises InvalidParameter, Conflict or SystemFailure for why not."""
    joined = {}
    shm_path = ""
    for kind, key in _SHARED:
        mode = record["HostConfig"][key]
        if mode.startswith("container:"):
            owner = _running(database, mode.partition(":")[2], key)
            joined[kind] = owner["state"]["pid"]
            if kind == "ipc":
                if owner["record"]["HostConfig"]["IpcMode"] not in ("shareable", "host"):
                    owner_id = owner["record"]["Id"]
                    raise InvalidParameter(
                        f"cannot join IPC namespace of container {owner_id}: non-shareable IPC "
                        "(hint: use IpcMode:shareable for the donor container)"
                    )
                if owner["record"]["HostConfig"]["IpcMode"] == "shareable":
                    shm_path = shm.path(settings, owner["record"]["Id"])
                else:
                    shm_path = "/dev/shm"
    if record["HostConfig"]["IpcMode"] == "shareable":
        shm_path = shm.mount(settings, record["Id"], record["HostConfig"]["ShmSize"])
    known = facts.gather(settings, record, rootfs=rootfs, netns_path=plan.netns_path, joined=joined, shm_path=shm_path)
    named = containers.get(database, plan.files_of)["record"] if plan.files_of else record
    known.hostname = named["Config"]["Hostname"] or ids.short(named["Id"])
    known.domainname = named["Config"]["Domainname"]
    made = spec.build_spec(record, known)
    _write_probe(settings, record, made["process"])
    return bundle.write(settings, record["Id"], made)


def _write_probe(settings: "Settings", record: "ContainerRecord", of_container: "dict[str, Any]") -> None:
    """What the keeper is to run as the container's health check: an exec with nothing of its own but the command."""
    command = health.command(record["Config"])
    if not command:
        return
    from service.runtime import exec_spec

    folder = health.folder(settings, record["Id"])
    os.makedirs(folder, 0o700, exist_ok=True)
    process = exec_spec.process(
        of_container, command=command, env=(), working_dir="", user=None, privileged=False, terminal=False
    )
    bundle.write_json(folder + "/process.json", process)


def _running(database: "Database", reference: str, key: str) -> "Container":
    try:
        owner = containers.find(database, reference)
    except NotFound as error:
        raise InvalidParameter(
            f"failed to join {key.removesuffix('Mode').upper()} namespace: {error.message}"
        ) from error
    if owner["state"]["status"] not in ("running", "paused"):
        raise Conflict(
            f"failed to join {key.removesuffix('Mode').upper()} namespace: "
            f"container {owner['record']['Id']} is not running"
        )
    return owner

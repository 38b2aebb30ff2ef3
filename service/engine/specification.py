"""The OCI config of one start: what other containers and the host add to a stored container, then `runtime.spec`."""

import os

from service import ids
from service.engine import health, links
from service.engine.namespaces import PREFIX
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
    host = record["HostConfig"]
    joined = {
        kind: _running(database, host[key].removeprefix(PREFIX), kind.upper())["state"]["pid"]
        for kind, key in _SHARED
        if host[key].startswith(PREFIX)
    }
    shm_path = _shared_memory(settings, database, record) if "ipc" in joined else ""
    if host["IpcMode"] == "shareable":
        shm_path = shm.mount(settings, record["Id"], host["ShmSize"])
    known = facts.gather(
        settings,
        record,
        rootfs=rootfs,
        netns_path=plan.netns_path,
        joined=joined,
        shm_path=shm_path,
        linked_environment=links.environment(database, record, plan.endpoints),
    )
    named = containers.get(database, plan.files_of)["record"] if plan.files_of else record
    if plan.files_of:
        known.files = facts.own_files(settings, named)
    known.hostname = named["Config"]["Hostname"] or ids.short(named["Id"])
    known.domainname = named["Config"]["Domainname"]
    made = spec.build_spec(record, known)
    for path in record.get("SecretEnvironment") or ():
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            made["process"]["env"].append(file.read())
    _write_probe(settings, record, made["process"])
    return bundle.write(settings, record["Id"], made)


def _shared_memory(settings: "Settings", database: "Database", record: "ContainerRecord") -> str:
    """The host path of the /dev/shm that belongs to the IPC namespace which a container joins.

    The namespace may be joined by several in a row; it is the first one's. Raises InvalidParameter when that does not
    share it, Conflict when it does not run.
    """
    mode = record["HostConfig"]["IpcMode"]
    if mode == "host":
        return "/dev/shm"
    if mode == "shareable":
        return shm.path(settings, record["Id"])
    if not mode.startswith(PREFIX):
        raise InvalidParameter(
            f"failed to join IPC namespace: container {record['Id']}: non-shareable IPC "
            "(hint: use IpcMode:shareable for the donor container)"
        )
    return _shared_memory(settings, database, _running(database, mode.removeprefix(PREFIX), "IPC")["record"])


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


def _running(database: "Database", reference: str, what: str) -> "Container":
    """The container whose namespace is joined; `what` is its kind. Raises InvalidParameter, or Conflict."""
    try:
        owner = containers.find(database, reference)
    except NotFound as error:
        raise InvalidParameter(f"failed to join {what} namespace: {error.message}") from error
    status, owner_id = owner["state"]["status"], owner["record"]["Id"]
    if status == "restarting":
        raise Conflict(
            f"failed to join {what} namespace: Container {owner_id} is restarting, wait until the container is running"
        )
    if status not in ("running", "paused"):
        raise Conflict(f"failed to join {what} namespace: container {owner_id} is not running")
    return owner

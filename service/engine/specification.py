"""The OCI config of one start: what other containers and the host add to a stored container, then `runtime.spec`."""

from service import ids
from service.errors import Conflict, InvalidParameter, NotFound
from service.runtime import bundle, facts, shm, spec
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    return bundle.write(settings, record["Id"], spec.build_spec(record, known))


def _running(database: "Database", reference: str, key: str) -> "Container":
    try:
        owner = containers.find(database, reference)
    except NotFound as error:
        raise InvalidParameter(
            f"failed to join {key.removesuffix('Mode').upper()} namespace: {error.message}"
        ) from error
    if owner["state"]["status"] not in ("running", "paused"):
        raise Conflict(
            f"cannot join {key.removesuffix('Mode').upper()} namespace of a non running container: {reference}"
        )
    return owner

"""/swarm, /nodes, /services, /tasks, /secrets, /configs: what dockerd answers on a node that is in no swarm.

A request is read first, as dockerd reads it, so that a client's mistakes are told as such.
"""

from compat_api.declaration import Filters, Flag, Text, check_boolean, delete, get, post
from compat_api.reply import Reply
from service.engine import swarm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.schemas.swarm import (
        ConfigSpec,
        NodeSpec,
        SecretSpec,
        ServiceSpec,
        SwarmInitRequest,
        SwarmJoinRequest,
        SwarmSpec,
        SwarmUnlockRequest,
    )

_SCHEMAS = "compat_api.schemas.swarm:"


def _check_boolean(key: str, text: str) -> None:
    check_boolean(text, f'invalid value for {key}: {text}: strconv.ParseBool: parsing "{text}": invalid syntax')


@get("/swarm")
def swarm_inspect() -> Reply:
    """Inspect the swarm (API: SwarmInspect)."""
    raise swarm.no_swarm()


@post("/swarm/init", body=_SCHEMAS + "SwarmInitRequest")
async def swarm_init(*, body: "SwarmInitRequest") -> Reply:
    """Make a swarm (API: SwarmInit): not offered."""
    from service.errors import NotImplemented_

    swarm.check_address(body.ListenAddr or "")
    raise NotImplemented_(swarm.NOT_OFFERED)


@post("/swarm/join", body=_SCHEMAS + "SwarmJoinRequest")
async def swarm_join(*, body: "SwarmJoinRequest") -> Reply:
    """Join a swarm (API: SwarmJoin): not offered."""
    from service.errors import NotImplemented_

    swarm.check_address(body.ListenAddr or "")
    raise NotImplemented_(swarm.NOT_OFFERED)


@post("/swarm/leave")
async def swarm_leave(force: bool = Flag()) -> Reply:
    """Leave the swarm (API: SwarmLeave)."""
    raise swarm.not_in_a_swarm()


@post("/swarm/update", body=_SCHEMAS + "SwarmSpec")
async def swarm_update(
    version: str = Text(),
    rotate_worker_token: str = Text(name="rotateWorkerToken"),
    rotate_manager_token: str = Text(name="rotateManagerToken"),
    rotate_manager_unlock_key: str = Text(name="rotateManagerUnlockKey"),
    *,
    body: "SwarmSpec",
) -> Reply:
    """Update the swarm (API: SwarmUpdate)."""
    swarm.check_version("swarm", version)
    for key, text in (
        ("rotateWorkerToken", rotate_worker_token),
        ("rotateManagerToken", rotate_manager_token),
        ("rotateManagerUnlockKey", rotate_manager_unlock_key),
    ):
        check_boolean(text, f"invalid value for {key}: {text}")
    raise swarm.no_swarm()


@get("/swarm/unlockkey")
def swarm_unlockkey() -> Reply:
    """The key that unlocks a manager (API: SwarmUnlockkey)."""
    raise swarm.no_swarm()


@post("/swarm/unlock", body=_SCHEMAS + "SwarmUnlockRequest")
async def swarm_unlock(*, body: "SwarmUnlockRequest") -> Reply:
    """Unlock a manager (API: SwarmUnlock)."""
    raise swarm.no_swarm()


@get("/nodes")
def node_list(filters: "dict[str, list[str]]" = Filters()) -> Reply:
    """List nodes (API: NodeList)."""
    raise swarm.no_swarm()


@get("/nodes/{id}")
def node_inspect(id: str) -> Reply:
    """Inspect a node (API: NodeInspect)."""
    raise swarm.no_swarm()


@post("/nodes/{id}/update", body=_SCHEMAS + "NodeSpec")
async def node_update(id: str, version: str = Text(), *, body: "NodeSpec") -> Reply:
    """Update a node (API: NodeUpdate)."""
    swarm.check_version("node", version)
    raise swarm.no_swarm()


@delete("/nodes/{id}")
async def node_delete(id: str, force: bool = Flag()) -> Reply:
    """Remove a node (API: NodeDelete)."""
    raise swarm.no_swarm()


@get("/services")
def service_list(filters: "dict[str, list[str]]" = Filters(), status: str = Text()) -> Reply:
    """List services (API: ServiceList)."""
    _check_boolean("status", status)
    raise swarm.no_swarm()


@get("/services/{id}")
def service_inspect(id: str, insert_defaults: str = Text(name="insertDefaults")) -> Reply:
    """Inspect a service (API: ServiceInspect)."""
    _check_boolean("insertDefaults", insert_defaults)
    raise swarm.no_swarm()


@post("/services/create", body=_SCHEMAS + "ServiceSpec")
async def service_create(*, body: "ServiceSpec") -> Reply:
    """Create a service (API: ServiceCreate)."""
    raise swarm.no_swarm()


@post("/services/{id}/update", body=_SCHEMAS + "ServiceSpec")
async def service_update(id: str, version: str = Text(), *, body: "ServiceSpec") -> Reply:
    """Update a service (API: ServiceUpdate)."""
    swarm.check_version("service", version)
    raise swarm.no_swarm()


@delete("/services/{id}")
async def service_delete(id: str) -> Reply:
    """Remove a service (API: ServiceDelete)."""
    raise swarm.no_swarm()


@get("/services/{id}/logs")
async def service_logs(id: str, stdout: bool = Flag(), stderr: bool = Flag()) -> Reply:
    """What the containers of a service wrote (API: ServiceLogs)."""
    swarm.check_streams(stdout, stderr)
    raise swarm.no_swarm()


@get("/tasks")
def task_list(filters: "dict[str, list[str]]" = Filters()) -> Reply:
    """List tasks (API: TaskList)."""
    raise swarm.no_swarm()


@get("/tasks/{id}")
def task_inspect(id: str) -> Reply:
    """Inspect a task (API: TaskInspect)."""
    raise swarm.no_swarm()


@get("/tasks/{id}/logs")
async def task_logs(id: str, stdout: bool = Flag(), stderr: bool = Flag()) -> Reply:
    """What the containers of a task wrote (API: TaskLogs)."""
    swarm.check_streams(stdout, stderr)
    raise swarm.no_swarm()


@get("/secrets")
def secret_list(filters: "dict[str, list[str]]" = Filters()) -> Reply:
    """List secrets (API: SecretList)."""
    raise swarm.no_swarm()


@get("/secrets/{id}")
def secret_inspect(id: str) -> Reply:
    """Inspect a secret (API: SecretInspect)."""
    raise swarm.no_swarm()


@post("/secrets/create", body=_SCHEMAS + "SecretSpec")
async def secret_create(*, body: "SecretSpec") -> Reply:
    """Create a secret (API: SecretCreate)."""
    raise swarm.no_swarm()


@post("/secrets/{id}/update", body=_SCHEMAS + "SecretSpec")
async def secret_update(id: str, version: str = Text(), *, body: "SecretSpec") -> Reply:
    """Update a secret (API: SecretUpdate)."""
    swarm.check_version("secret", version)
    raise swarm.no_swarm()


@delete("/secrets/{id}")
async def secret_delete(id: str) -> Reply:
    """Remove a secret (API: SecretDelete)."""
    raise swarm.no_swarm()


@get("/configs")
def config_list(filters: "dict[str, list[str]]" = Filters()) -> Reply:
    """List configs (API: ConfigList)."""
    raise swarm.no_swarm()


@get("/configs/{id}")
def config_inspect(id: str) -> Reply:
    """Inspect a config (API: ConfigInspect)."""
    raise swarm.no_swarm()


@post("/configs/create", body=_SCHEMAS + "ConfigSpec")
async def config_create(*, body: "ConfigSpec") -> Reply:
    """Create a config (API: ConfigCreate)."""
    raise swarm.no_swarm()


@post("/configs/{id}/update", body=_SCHEMAS + "ConfigSpec")
async def config_update(id: str, version: str = Text(), *, body: "ConfigSpec") -> Reply:
    """Update a config (API: ConfigUpdate)."""
    swarm.check_version("config", version)
    raise swarm.no_swarm()


@delete("/configs/{id}")
async def config_delete(id: str) -> Reply:
    """Remove a config (API: ConfigDelete)."""
    raise swarm.no_swarm()

"""Every operation of the API, one module per Docker resource; the bulky verbs of a resource stand in `resource_verb`.

A cold process imports only the modules that the first segment of the path can need, the first of them first, until one
knows the path: no two modules know the same one. A new module is entered here.
"""

from compat_api.declaration import match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.declaration import Operation

CHAPTERS = {
    "_ping": ("system_ping",),
    "version": ("system",),
    "info": ("system",),
    "system": ("system",),
    "events": ("events",),
    "auth": ("auth",),
    "containers": (
        "containers",
        "containers_archive",
        "containers_attach",
        "containers_logs",
        "containers_stats",
        "containers_top",
        "containers_checkpoints",
        "execs",
    ),
    "exec": ("execs",),
    "images": ("images",),
    "commit": ("images_commit",),
    "build": ("build",),
    "grpc": ("buildkit",),
    "session": ("buildkit",),
    "distribution": ("distribution",),
    "networks": ("networks",),
    "volumes": ("volumes",),
    "plugins": ("plugins",),
    **dict.fromkeys(("swarm", "nodes", "services", "tasks", "secrets", "configs"), ("swarm",)),
}
_OTHER_SPELLINGS = {"/networks/": "/networks"}  # dockerd has this route too
_loaded: set[str] = set()


def load(name: str) -> None:
    """Import the module of that name, which declares its operations."""
    if name not in _loaded:
        __import__("compat_api.operations." + name)
        _loaded.add(name)


def load_all() -> None:
    """Import every module: the OpenAPI description and the tests want them all."""
    for names in CHAPTERS.values():
        for name in names:
            load(name)


def find(method: str, path: str) -> "tuple[Operation, list[str]] | None":
    """The operation and its path values for a decoded path without version; None when there is none."""
    path = _OTHER_SPELLINGS.get(path, path)
    found = match(method, path)
    if found is None:  # one module after the other: a cold process that lists containers wants none of their verbs
        for name in CHAPTERS.get(path[1:].partition("/")[0], ()):
            if name not in _loaded:
                load(name)
                found = match(method, path)
                if found is not None:
                    break
    return found

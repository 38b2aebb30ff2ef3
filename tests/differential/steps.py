"""The words in which the requests of these tests are written."""

import json
from typing import Any

Step = tuple[str, str, Any]  # method, path with its query, body: None, bytes as they are, or what becomes JSON
CREATE = "/containers/create"
LAST = "{last}"  # in a path: the Id of what the last creation made, which differs on the two sides


def post(path: str, body: Any = None) -> Step:
    return "POST", path, body


def get(path: str) -> Step:
    return "GET", path, None


def delete(path: str) -> Step:
    return "DELETE", path, None


def make(name: str, **config: Any) -> Step:
    """A container that would sleep, under a name."""
    return post(f"{CREATE}?name={name}", {"Image": "busybox", "Cmd": ["sleep", "1000"], **config})


def starting(**config: Any) -> list[Step]:
    """A container made, started and removed: what matters is what the start says."""
    return [make("d-start", **config), post("/containers/d-start/start"), delete("/containers/d-start?force=1&v=1")]


def publishing(bindings: dict[str, Any]) -> dict[str, Any]:
    """What a create says to publish ports: dockerd 26 publishes none that are not exposed as well."""
    return {"ExposedPorts": {port: {} for port in bindings}, "HostConfig": {"PortBindings": bindings}}


def creating(**config: Any) -> Step:
    """A container that is removed at once if it comes to be."""
    return post(CREATE, {"Image": "busybox", **config})


def hosted(**host_config: Any) -> Step:
    """The same with a HostConfig."""
    return creating(HostConfig=host_config)


def shown(step: Step) -> str:
    """A request as rows of openapi/DIFFERENCES.md write it."""
    method, path, body = step
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else "" if body is None else json.dumps(body)
    return f"{method} {path} {text}".strip()

"""When a step of an earlier build is the same step (moby: image/cache/compare.go)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LISTS = ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild")
_SETS = ("ExposedPorts", "Volumes")
_FLAGS = (
    "AttachStdin", "AttachStdout", "AttachStderr", "NetworkDisabled", "Tty", "OpenStdin", "StdinOnce", "ArgsEscaped",
)  # fmt: skip
_TEXTS = ("User", "WorkingDir", "StopSignal")


def same(one: "dict[str, Any]", other: "dict[str, Any]") -> bool:
    """Whether two configurations (of the containers that made images) differ only in what is each container's own."""
    if any(list(one.get(key) or ()) != list(other.get(key) or ()) for key in _LISTS):
        return False
    if any(set(one.get(key) or ()) != set(other.get(key) or ()) for key in _SETS):
        return False
    if (one.get("Labels") or {}) != (other.get("Labels") or {}):
        return False
    if any(bool(one.get(key)) != bool(other.get(key)) for key in _FLAGS):
        return False
    if any((one.get(key) or "") != (other.get(key) or "") for key in _TEXTS):
        return False
    if one.get("StopTimeout") != other.get("StopTimeout"):
        return False
    return _health(one) == _health(other)


def _health(config: "dict[str, Any]") -> "dict[str, Any] | None":
    check = config.get("Healthcheck")
    return None if check is None else {key: value for key, value in check.items() if value}


def continues(history: "list[dict[str, Any]]", diff_ids: "list[str]", parent: "dict[str, Any]") -> bool:
    """Whether an image with this history and these layers begins as `parent` (an image's configuration; empty: nothing)
    and has more steps."""
    steps, layers = parent.get("history") or [], (parent.get("rootfs") or {}).get("diff_ids") or []
    return len(steps) < len(history) and history[: len(steps)] == steps and diff_ids[: len(layers)] == layers


def layer_of(history: "list[dict[str, Any]]", diff_ids: "list[str]", step: int) -> str:
    """The diff id of the layer that a step made; empty when it made none."""
    if history[step].get("empty_layer"):
        return ""
    before = sum(1 for other in history[:step] if not other.get("empty_layer"))
    return diff_ids[before] if before < len(diff_ids) else ""

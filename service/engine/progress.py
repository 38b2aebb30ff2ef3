"""Docker's progress messages in the form that its clients draw bars from (moby: pkg/jsonmessage)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def update(layer: str, status: str) -> "dict[str, Any]":
    """A layer's new state."""
    return {"status": status, "progressDetail": {}, "id": layer}


def bar(layer: str, status: str, current: int, total: int) -> "dict[str, Any]":
    """How far a layer is, in bytes."""
    return {
        "status": status,
        "progressDetail": {"current": current, "total": total},
        "progress": _drawn(current, total),
        "id": layer,
    }


async def count_down(report: "Callable[[dict[str, Any]], None]", layer: str, seconds: int) -> None:
    """Wait before another attempt, and say so every second."""
    import asyncio

    for left in range(seconds, 0, -1):
        report(update(layer, f"Retrying in {left} second{'' if left == 1 else 's'}"))
        await asyncio.sleep(1)


def message(text: str, id: str = "") -> "dict[str, Any]":
    """A line."""
    return {"status": text, "id": id} if id else {"status": text}


def _drawn(current: int, total: int) -> str:
    if total <= 0 or current > total:
        return f"{human(current):>8}"
    filled = min(int(current / total * 100) // 2, 50)
    return f"[{'=' * filled}>{' ' * (50 - filled)}] {human(current):>8}/{human(total)}"


def human(size: float) -> str:
    """Bytes with four significant digits and a decimal unit, as Docker writes sizes."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.4g}{unit}"

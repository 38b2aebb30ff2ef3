"""/dev/shm of a container whose IPC namespace others may join (`--ipc shareable`): a host tmpfs, bound into each.

A container with a private IPC namespace has its own tmpfs inside, and needs nothing of this.
"""

import os

from service.kernel import mount as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings


def path(settings: "Settings", container_id: str) -> str:
    """Where it is mounted while the container runs."""
    return settings.container_run(container_id) + "/shm"


def mount(settings: "Settings", container_id: str, size: int) -> str:
    """Mount it (`size` in bytes) unless it is; its path. Raises OSError."""
    place = path(settings, container_id)
    os.makedirs(place, 0o700, exist_ok=True)
    if not kernel.is_mounted(place):
        flags = kernel.MS_NOEXEC | kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("shm", place, "tmpfs", flags, f"mode=1777,size={size}")
    return place


def unmount(settings: "Settings", container_id: str) -> None:
    """Take it away. Idempotent."""
    kernel.detach(path(settings, container_id))

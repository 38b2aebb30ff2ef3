"""A container as it is stored: Docker's own words, as JSON in the store.

TypedDicts, not dataclasses: the exit hook and a cold process read these, and `dataclasses` alone costs 15 ms to import.
At run time these names are plain dicts; a type checker sees every key.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NotRequired, TypedDict

    class MountPoint(TypedDict):
        """One mount of a container, resolved: what inspect shows, and what the launch needs to make it."""

        Type: str  # bind | volume | tmpfs | image
        Name: NotRequired[str]  # the volume's name
        Source: str  # host path; empty for tmpfs; for an image where a start mounts it
        Destination: str  # absolute path in the container
        Driver: NotRequired[str]
        Mode: str  # as the user wrote it: "ro", "z", …
        RW: bool
        Propagation: str  # rprivate, rslave, …; empty for volumes
        Options: NotRequired[list[str]]  # further mount options for the runtime (tmpfs: size=…, mode=…)
        NoCopy: NotRequired[bool]  # volume: do not copy the image's content into an empty volume
        Anonymous: NotRequired[bool]  # volume: the request named none; `rm -v` and `--rm` take it along
        Device: NotRequired[str]  # volume: what its driver options mount on it, or that they limit its size
        Subpath: NotRequired[str]  # volume, image: the part that is mounted
        MakeSource: NotRequired[bool]  # bind: a missing source is made (a directory)
        NonRecursive: NotRequired[bool]  # bind: without what is mounted below the source
        ReadOnlyBelow: NotRequired[
            bool
        ]  # read-only bind: what is mounted below is so, too; absent: if that can be done
        Image: NotRequired[str]  # image: its id …
        Layers: NotRequired[list[str]]  # … and layer directories, lowest first
        Upper: NotRequired[str]  # image: where what is written to it goes, in a build; absent: it is read-only …
        Work: NotRequired[str]  # … and overlayfs' work directory beside that

    class ContainerRecord(TypedDict):
        """What create decided. Changes only by rename, update and network connect/disconnect."""

        Id: str
        Name: str  # without the leading slash of Docker's wire
        Created: str  # RFC 3339 with nanoseconds, UTC
        Path: str  # entrypoint and command, joined: the first word …
        Args: list[str]  # … and the rest
        Image: str  # image id, "sha256:…"
        Config: dict[str, Any]  # Docker's ContainerConfig: the request's merged over the image's
        HostConfig: dict[str, Any]  # Docker's HostConfig, defaults filled in
        EndpointsConfig: dict[str, dict[str, Any]]  # as requested: network name → EndpointSettings
        Mounts: list[MountPoint]
        Layers: list[str]  # layer directories of the image below the writable layer, lowest first (content.rootfs)
        Platform: str  # "linux"
        Hidden: NotRequired[bool]  # a step of a build runs in it: no client is told of it
        Volatile: NotRequired[bool]  # what it writes need not outlive the machine: a build removes it, or its next boot
        NoNewPrivileges: NotRequired[bool]  # laid down for containers that say nothing of it (daemon.json)
        SecretEnvironment: NotRequired[
            list[str]
        ]  # files that hold variables (NAME=value) which are written nowhere else
        VolumesGo: NotRequired[bool]  # it is being removed, and its anonymous volumes with it

    class ContainerState(TypedDict):
        """What happens to it. The columns of `containers` in the store, one to one."""

        status: str  # created | running | paused | restarting | removing | exited | dead
        pid: int  # of the container's first process; 0 when none
        conmon_pid: int
        pid_start: int  # when those two started (clock ticks since boot): a pid alone is given out again; 0: not known
        conmon_start: int
        exit_code: int
        error: str  # why the last start failed
        oom_killed: bool
        started_at: str  # RFC 3339; "0001-01-01T00:00:00Z" when never
        finished_at: str
        restart_count: int
        stopped_by_user: bool  # a stop or kill was asked for: restart policies other than `always` rest
        generation: int  # counts the starts: a late exit hook of an older start changes nothing
        boot_id: str  # the boot in which it was started
        kept: bool  # `--rm` is held off: it is being restarted
        holds: bool  # mounts, network or runtime state may exist and must be released
        duties: str  # while it runs: what the keeper does for it (engine.duty), names with blanks between
        backoff_ms: int  # how long its last restart was waited for; 0 when none was
        restart_due: int  # restarting: when it is to be started (CLOCK_MONOTONIC, nanoseconds)
        restart_canceled: bool  # it was told to end: no restart policy acts, until the next start

    class Container(TypedDict):
        """The two halves together, as `store.containers` gives them."""

        record: ContainerRecord
        state: ContainerState


NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, which Docker shows where nothing happened yet

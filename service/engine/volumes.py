"""Volumes of the local driver: a directory each, mounted into containers by bind.

With driver options (`type`, `device`, `o`) the directory is a mount point for that file system; it is mounted when the
first container that uses the volume starts, and taken away with the last one, as Docker's local driver does it.
"""

import fcntl
import os

from service import bell, timestamps
from service.engine import events
from service.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from service.ids import new_id
from service.store import volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Any

    from service.model.volume import Volume
    from service.settings import Settings
    from service.store.database import Database

ANONYMOUS_LABEL = "com.docker.volume.anonymous"  # dockerd marks them so; clients read it
_NAME_START = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME = _NAME_START + "_.-"


def check_name(name: str) -> None:
    """Raise InvalidParameter unless `name` may name a volume: it becomes a directory."""
    if len(name) < 2 or name[0] not in _NAME_START or any(c not in _NAME for c in name):
        if len(name) == 1:
            raise InvalidParameter(
                f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
            )
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def data_path(settings: "Settings", name: str) -> str:
    """Where a volume's files are, on the host."""
    return f"{settings.root}/volumes/{name}/_data"


def create(
    settings: "Settings",
    database: "Database",
    name: str,
    driver: str = "",
    options: "Mapping[str, str] | None" = None,
    labels: "Mapping[str, str] | None" = None,
) -> "Volume":
    """Make a volume, or find the one of that name (API: VolumeCreate is idempotent). Blocking. Raises as `decide`."""
    volume = decide(settings, database, name, driver, options, labels)
    if volumes.get(database, volume["Name"]) is None:
        with exclusively(settings, [volume["Name"]]):
            made = False
            try:
                made = make(settings, volume)
                with database.write():
                    register(database, volume)
            except BaseException:
                if volumes.get(database, volume["Name"]) is None:  # else another process was faster
                    discard(settings, volume["Name"], volume["Driver"] if made else "")  # never what was there before
                raise
        bell.ring(settings.bell)
    return volumes.get(database, volume["Name"]) or volume


def decide(
    settings: "Settings",
    database: "Database",
    name: str,
    driver: str = "",
    options: "Mapping[str, str] | None" = None,
    labels: "Mapping[str, str] | None" = None,
) -> "Volume":
    """The volume of that name, or the one that would be made (nothing is). Without a name: an anonymous one.

    Raises InvalidParameter for a bad name or option, NotFound for an unknown driver, Conflict when the name belongs to
    a volume of another driver.
    """
    anonymous = not name
    name = name or new_id()
    there = volumes.get(database, name)
    if is_local(driver):
        check_name(name)
    elif there is None or there["Driver"] != driver:
        from service.engine import volume_drivers

        try:
            volume_drivers.look_up(settings, driver)
        except (NotFound, SystemFailure) as error:
            raise type(error)(f"create {name}: {error.message}") from None
        check_name(name)  # its lock is a directory of that name
    if there is not None:
        if driver and there["Driver"] != driver:
            raise Conflict(
                f"create {name}: driver '{there['Driver']}' already has volume '{name}': volume name must be unique"
            )
        return there
    if is_local(driver):
        _check_options(settings, name, options or {})
    return {
        "Name": name,
        "Driver": driver or "local",
        "CreatedAt": timestamps.rfc3339(timestamps.now_ns() // 1_000_000_000 * 1_000_000_000),
        "Labels": dict(sorted({**(labels or {}), **({ANONYMOUS_LABEL: ""} if anonymous else {})}.items())),
        "Options": dict(sorted((options or {}).items())),
        "anonymous": anonymous,
    }


def is_local(driver: str) -> bool:
    """Whether the driver is our own, not a plugin."""
    return driver in ("", "local")


def make(settings: "Settings", volume: "Volume") -> bool:
    """Have a plugin make its volume; the files of our own driver's are there with the lock. Under `exclusively`.

    True when the plugin has made it, False when there was nothing to do. Raises NotFound, SystemFailure.
    """
    if is_local(volume["Driver"]):
        return False
    from service.engine import volume_drivers

    return volume_drivers.make(settings, volume)


def register(database: "Database", volume: "Volume") -> None:
    """Write down a volume whose files are there, unless it is known. In a transaction, under `exclusively`."""
    if volumes.insert(database, volume):
        events.record(database, "volume", "create", volume["Name"], {"driver": volume["Driver"]})


class exclusively:  # noqa: N801 - reads as a word in `with exclusively(...)`
    """`with exclusively(settings, names):` nobody else makes, fills, mounts or removes these volumes meanwhile.

    The lock (flock) is on each volume's directory, which is made for it: what is left of a create that was killed is a
    directory that no row knows (`discard_unregistered`). The names are taken in one order, so that two creates with the
    same volumes do not wait for each other. `wait=False`: raises BlockingIOError when one is held.
    """

    def __init__(self, settings: "Settings", names: "Iterable[str]", *, wait: bool = True) -> None:
        self.settings = settings
        self.names = sorted(set(names))
        self.flags = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        self.held: list[int] = []

    def __enter__(self) -> None:
        try:
            for name in self.names:
                self.held.append(self._hold(name))
        except BaseException:
            self._let_go()
            raise

    def _hold(self, name: str) -> int:
        folder = os.path.dirname(data_path(self.settings, name))
        while True:
            os.makedirs(folder, 0o701, exist_ok=True)
            try:
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # removed just now
            try:
                fcntl.flock(fd, self.flags)
                if os.stat(folder).st_ino == os.fstat(fd).st_ino:
                    os.makedirs(data_path(self.settings, name), 0o755, exist_ok=True)
                    return fd
            except FileNotFoundError:
                pass  # removed by whoever held the lock: make it again
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _let_go(self) -> None:
        while self.held:
            os.close(self.held.pop())

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self._let_go()


def _check_options(settings: "Settings", name: str, options: "Mapping[str, str]") -> None:
    if not options:
        return
    from service.engine import local_driver

    try:
        local_driver.check(settings, options)
    except InvalidParameter as error:
        raise InvalidParameter(f"create {name}: {error.message}") from None


def find(database: "Database", name: str) -> "Volume":
    """The volume of that name. Raises NotFound."""
    volume = volumes.get(database, name)
    if volume is None:
        raise NotFound(f"get {name}: no such volume")
    return volume


def remove(settings: "Settings", database: "Database", name: str, *, force: bool = False) -> None:
    """Delete a volume and its files. Blocking. Raises NotFound (not with `force`), Conflict when it is in use."""
    volume = volumes.get(database, name)
    if volume is None:
        if force:
            return
        raise NotFound(f"get {name}: no such volume")
    with exclusively(settings, [name]):
        if not is_local(volume["Driver"]) and not volumes.users(database, name):
            from service.engine import volume_drivers

            try:
                volume_drivers.remove(settings, volume["Driver"], name)  # first: if it refuses, the volume stays
            except NotFound:
                if not force:  # else a volume whose plugin is gone for good is forgotten, as by dockerd
                    raise
        with database.write():
            if not unregister(database, name):
                users = ", ".join(volumes.users(database, name))
                if users:
                    raise Conflict(f"remove {name}: volume is in use - [{users}]")
        discard_files(settings, name)
    bell.ring(settings.bell)


def unregister(database: "Database", name: str) -> bool:
    """Forget a volume that no container uses; its files are still to be discarded. In a transaction.

    False when it is in use, or gone.
    """
    volume = volumes.get(database, name)
    if volume is None or not volumes.delete(database, name):
        return False
    events.record(database, "volume", "destroy", name, {"driver": volume["Driver"]})
    return True


def discard(settings: "Settings", name: str, driver: str) -> None:
    """Remove what there is of a volume that is not registered (any more), also at its plugin. Under `exclusively`.

    What a plugin says against it is written to the journal.
    """
    if not is_local(driver):
        from service import journal
        from service.engine import volume_drivers

        try:
            volume_drivers.remove(settings, driver, name)
        except (NotFound, SystemFailure) as error:
            journal.write("warning", error.message)
    discard_files(settings, name)


def discard_files(settings: "Settings", name: str) -> None:
    """Remove the directory of a volume that is not registered (any more). Under `exclusively`."""
    from service.kernel.tree import remove_tree

    unmount(settings, name)
    remove_tree(os.path.dirname(data_path(settings, name)))


def discard_unregistered(settings: "Settings", database: "Database") -> None:
    """Remove what creates that were killed have left: directories that no row knows and nobody is filling."""
    for name in set(os.listdir(settings.root + "/volumes")) - volumes.names(database):
        try:
            with exclusively(settings, [name], wait=False):
                if volumes.get(database, name) is None:
                    discard_files(settings, name)
        except BlockingIOError:
            continue  # another process is just making it


def mount(settings: "Settings", volume: "Volume") -> None:
    """Mount the file system that a volume's options name, unless it is mounted, and limit its size. Blocking; under
    `exclusively`.

    Raises SystemFailure in dockerd's words.
    """
    from service.engine import local_driver

    path = data_path(settings, volume["Name"])
    try:
        local_driver.mount(volume["Options"], path)
        local_driver.limit(settings, volume["Options"], path)
    except SystemFailure as error:
        raise SystemFailure(f"error while mounting volume '{path}': {error.message}") from None


def unmount(settings: "Settings", name: str) -> None:
    """Take away what is mounted on a volume, if anything is. Under `exclusively`."""
    from service.kernel.mount import is_mounted, umount

    path = data_path(settings, name)
    if is_mounted(path):
        umount(path)


def unmount_unless_held(settings: "Settings", database: "Database", name: str) -> None:
    """Take away the file system of a volume that no container has mounted (any more). Under `exclusively`."""
    if not volumes.is_held(database, name):
        unmount(settings, name)


def describe(settings: "Settings", volume: "Volume") -> "dict[str, Any]":
    """Docker's Volume (API: VolumeInspect). Blocking when the volume is a plugin's; then raises as it answers."""
    if not is_local(volume["Driver"]):
        from service.engine import volume_drivers

        told = volume_drivers.describe(settings, volume)
        return {**_described(settings, volume), **told}
    return _described(settings, volume)


def _described(settings: "Settings", volume: "Volume") -> "dict[str, Any]":
    return {
        "CreatedAt": volume["CreatedAt"],
        "Driver": volume["Driver"],
        "Labels": volume["Labels"] or None,
        "Mountpoint": data_path(settings, volume["Name"]),
        "Name": volume["Name"],
        "Options": volume["Options"] or None,
        "Scope": "local",
    }


def described(settings: "Settings", found: "Iterable[Volume]") -> "tuple[list[dict[str, Any]], list[str]]":
    """Docker's Volumes, and warnings: those whose plugin does not answer are shown by what we know of them."""
    documents: list[dict[str, Any]] = []
    warnings: list[str] = []
    for volume in found:
        try:
            document = describe(settings, volume)
            document.pop("Status", None)  # dockerd shows it to inspect only
            documents.append(document)
        except (NotFound, SystemFailure) as error:
            documents.append({**_described(settings, volume), "Mountpoint": ""})
            if error.message not in warnings:
                warnings.append(error.message)
    return documents, warnings


def matching(database: "Database", filters: "Mapping[str, list[str]]") -> "list[Volume]":
    """The volumes that every filter keeps (API: VolumeList). Raises InvalidParameter for an unknown filter."""
    for key in filters:
        if key not in ("dangling", "driver", "label", "name"):
            raise InvalidParameter(f"invalid filter '{key}'")
    counts = volumes.use_counts(database)
    kept = volumes.by_name(database)
    if "dangling" in filters:
        wanted = {*filters["dangling"]}
        dangling = bool({"1", "true"} & wanted)
        if dangling == bool({"0", "false"} & wanted):
            raise InvalidParameter(f"invalid filter 'dangling=[{' '.join(filters['dangling'])}]'")
        kept = [v for v in kept if (v["Name"] not in counts) == dangling]
    if filters.get("driver"):
        kept = [v for v in kept if v["Driver"] in filters["driver"]]
    if filters.get("name"):
        kept = [v for v in kept if any(part in v["Name"] for part in filters["name"])]
    for label in filters.get("label", ()):
        kept = [v for v in kept if has_label(v["Labels"], label)]
    return kept


def has_label(labels: "Mapping[str, str]", wanted: str) -> bool:
    """Whether `labels` have `wanted`: a key, or key=value."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def prune(
    settings: "Settings", database: "Database", filters: "Mapping[str, list[str]]", *, named_too: bool
) -> tuple[list[str], int]:
    """Remove the unused volumes; only anonymous ones unless `named_too`. (names, bytes set free). Blocking."""
    from service.kernel.tree import disk_usage

    for key in filters:
        if key not in ("all", "label", "label!"):
            raise InvalidParameter(f"invalid filter '{key}'")
    counts = volumes.use_counts(database)
    gone, freed = [], 0
    for volume in volumes.by_name(database):
        if volume["Name"] in counts or not (named_too or volume["anonymous"]):
            continue
        if volume["Options"] or not is_local(volume["Driver"]):
            continue  # what is kept elsewhere is not thrown away with what is kept here (dockerd does not, either)
        if not all(has_label(volume["Labels"], label) for label in filters.get("label", ())):
            continue
        if any(has_label(volume["Labels"], label) for label in filters.get("label!", ())):
            continue
        size = disk_usage(data_path(settings, volume["Name"]))
        try:
            remove(settings, database, volume["Name"])
        except (Conflict, NotFound):
            continue  # a container took it, or somebody removed it, since we looked
        gone.append(volume["Name"])
        freed += size
    with database.write():
        events.record(database, "volume", "prune", "", {"reclaimed": str(freed)})
    bell.ring(settings.bell)
    return gone, freed

"""Volumes that a plugin keeps (volume plugins, protocol v1): made, found, mounted and removed by asking it.

A plugin counts mounts by the id that it is given, here the container's. Each is written down below /run before it is
asked for, and taken off after it was given back: so a process that is killed in between leaves a note, by which the
next one gives it back (`settle`). Everything is done under `volumes.exclusively`.
"""

import os

from service import journal, jsontext, plugins
from service.errors import MoorageError, NotFound, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.model.volume import Volume
    from service.settings import Settings
    from service.store.database import Database

_CAPABILITY = "VolumeDriver"


def look_up(settings: "Settings", driver: str, *, patience: float = plugins.PATIENCE) -> plugins.Plugin:
    """The plugin that is the driver. Raises NotFound or SystemFailure in dockerd's words."""
    try:
        return plugins.find(settings, driver, _CAPABILITY, patience=patience)
    except NotFound as error:
        raise NotFound(f"error looking up volume plugin {driver}: {error.message}") from None
    except SystemFailure as error:
        raise SystemFailure(f"error looking up volume plugin {driver}: {error.message}") from None


def make(settings: "Settings", volume: "Volume") -> bool:
    """Have the plugin make a volume. False when it has one of that name already, which is taken as it is."""
    plugin = look_up(settings, volume["Driver"])
    name = volume["Name"]
    if _get(plugin, name):
        return False
    try:
        plugin.call("VolumeDriver.Create", {"Name": name, "Opts": volume["Options"] or None})
    except SystemFailure as error:
        raise SystemFailure(f"create {name}: {error.message}") from None
    return True


def remove(settings: "Settings", driver: str, name: str) -> None:
    """Have the plugin remove a volume. Raises NotFound, SystemFailure."""
    try:
        look_up(settings, driver).call("VolumeDriver.Remove", {"Name": name})
    except (NotFound, SystemFailure) as error:
        raise type(error)(f"remove {name}: {error.message}") from None


def _get(plugin: plugins.Plugin, name: str) -> "dict[str, Any] | None":
    try:
        found = plugin.call("VolumeDriver.Get", {"Name": name}).get("Volume")
    except SystemFailure:
        return None  # that is how a plugin says that it has none
    return found if isinstance(found, dict) else None


def describe(settings: "Settings", volume: "Volume") -> "dict[str, Any]":
    """What the plugin knows of a volume, to be added to what we know: Mountpoint, Scope, Status, CreatedAt.

    Raises NotFound, SystemFailure.
    """
    plugin = look_up(settings, volume["Driver"], patience=0.0)  # a list must not wait for one that has crashed
    found = _get(plugin, volume["Name"])
    if found is None:
        raise NotFound(f"get {volume['Name']}: no such volume")
    try:
        scope = str((plugin.call("VolumeDriver.Capabilities", {}).get("Capabilities") or {}).get("Scope") or "")
    except SystemFailure:
        scope = ""  # a plugin need not know the question
    told: dict[str, Any] = {
        "Mountpoint": str(found.get("Mountpoint") or ""),
        "Scope": "global" if scope.lower() == "global" else "local",
    }
    if found.get("CreatedAt"):
        told["CreatedAt"] = found["CreatedAt"]
    if found.get("Status"):
        told["Status"] = found["Status"]
    return told


def mount(settings: "Settings", driver: str, name: str, holder: str) -> str:
    """Have the plugin mount a volume for the container `holder`; where. Idempotent for one holder.

    Raises NotFound, SystemFailure.
    """
    known = place(settings, name, holder)
    if known:
        return known  # at another place of the same container, too: the plugin counts
    os.makedirs(_notes(settings), 0o700, exist_ok=True)
    _write(settings, name, holder, {"driver": driver})
    try:
        there = look_up(settings, driver).call("VolumeDriver.Mount", {"Name": name, "ID": holder}).get("Mountpoint")
    except MoorageError as error:
        unmount(settings, name, holder)  # it may have mounted it all the same: its answer may be what was lost
        raise type(error)(f"error while mounting volume '{name}': {error.message}") from None
    if not isinstance(there, str) or not there.startswith("/"):
        unmount(settings, name, holder)
        raise SystemFailure(f"error while mounting volume '{name}': the plugin does not say where it is")
    _write(settings, name, holder, {"driver": driver, "place": there})
    return there


def place(settings: "Settings", name: str, holder: str) -> str:
    """Where a plugin has mounted a volume for a container; empty when it has not."""
    return str((_read(settings, name, holder) or {}).get("place") or "")


def unmount(settings: "Settings", name: str, holder: str) -> None:
    """Give a mount back, if there is a note of it. What the plugin says against it is written to the journal: dockerd
    goes on, too."""
    note = _read(settings, name, holder)
    if note is None:
        return
    try:
        look_up(settings, note["driver"], patience=2.0).call("VolumeDriver.Unmount", {"Name": name, "ID": holder})
    except MoorageError as error:
        journal.write("warning", f"volume {name}: {error.message}")
    os.unlink(_note(settings, name, holder))


def settle(settings: "Settings", database: "Database") -> None:
    """Give back what creates and releases that were killed have left mounted. Cheap when there is nothing."""
    from service.engine import volumes
    from service.store import containers

    try:
        notes = os.listdir(_notes(settings))
    except FileNotFoundError:
        return
    for note in notes:
        if note.endswith(".new"):
            continue  # written, and the plugin not yet asked
        holder, _, name = note.partition(".")
        try:
            with volumes.exclusively(settings, [name], wait=False):
                if not _is_held(database, containers.all_ids(database), holder):
                    unmount(settings, name, holder)
        except BlockingIOError:
            continue  # a create or a start is just at it


def _is_held(database: "Database", known: "list[str]", holder: str) -> bool:
    from service.store import containers

    return holder in known and bool(containers.get(database, holder)["state"]["holds"])


def _write(settings: "Settings", name: str, holder: str, note: "dict[str, str]") -> None:
    path = _note(settings, name, holder)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(jsontext.dumps(note))
    os.rename(path + ".new", path)


def _read(settings: "Settings", name: str, holder: str) -> "dict[str, str] | None":
    try:
        with open(_note(settings, name, holder), encoding="utf-8") as file:
            note: dict[str, str] = jsontext.loads(file.read())
            return note
    except FileNotFoundError:
        return None


def _notes(settings: "Settings") -> str:
    return settings.run + "/volume-mounts"


def _note(settings: "Settings", name: str, holder: str) -> str:
    return f"{_notes(settings)}/{holder}.{name}"

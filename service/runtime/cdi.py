"""CDI, the Container Device Interface: what vendors' files say must be done to a container that gets their device.

A file names a kind (`nvidia.com/gpu`) and devices, each with edits of the OCI config; a device is asked for as
`nvidia.com/gpu=0` (github.com/cncf-tags/container-device-interface, SPEC.md, versions 0.3 to 1.0). `--gpus` asks by
driver, count and capability: it is brought to such names here.
"""

import os

from service.errors import InvalidParameter
from service.settings import PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Edits = dict[str, Any]

DRIVER = "cdi"
NVIDIA_HOOK = "nvidia-container-runtime-hook"  # of NVIDIA's container toolkit
# Drivers of Docker's `--gpus`, by the kind that serves them, with the capabilities that ask for them.
_GPUS = {
    "nvidia": (
        "nvidia.com/gpu",
        frozenset({"gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"}),
    ),
    "amd": ("amd.com/gpu", frozenset({"gpu", "amd"})),
}
_HOOKS = frozenset({"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"})
_LISTS = ("env", "deviceNodes", "mounts", "hooks", "additionalGids")


class Registry:
    """What the files of some directories offer. `devices`: full name → (edits of the whole file, edits of the device).

    `errors`: path → why the file is not used. A later directory's device wins over an earlier one's; one that two
    files of the same directory name is not offered.
    """

    def __init__(self, directories: "Sequence[str]") -> None:
        self.devices: dict[str, tuple[Edits, Edits]] = {}
        self.errors: dict[str, list[str]] = {}
        origin: dict[str, tuple[int, str]] = {}
        conflicts = set()
        for priority, directory in enumerate(directories):
            for path in _files(directory):
                try:
                    kind, of_file, devices = _read(path)
                except (OSError, ValueError) as error:
                    self._complain(path, f"failed to load CDI Spec {path!r}: {error}")
                    continue
                for name, edits in devices.items():
                    full = f"{kind}={name}"
                    if origin.get(full, (-1, ""))[0] == priority:
                        conflicts.add(full)
                        for one in (path, origin[full][1]):
                            self._complain(one, f'conflicting device "{full}" (specs "{path}", "{origin[full][1]}")')
                        continue
                    conflicts.discard(full)
                    origin[full] = (priority, path)
                    self.devices[full] = (of_file, edits)
        for full in conflicts:
            del self.devices[full]

    def _complain(self, path: str, words: str) -> None:
        self.errors.setdefault(path, []).append(words)

    def names(self, kind: str) -> list[str]:
        """The devices of a kind, in the order of their names, numbers by value; without `all`."""
        found = [full for full in self.devices if full.startswith(kind + "=") and full != kind + "=all"]
        return sorted(found, key=lambda full: (0, int(full.partition("=")[2]), "") if _numbered(full) else (1, 0, full))

    def edits(self, names: "Sequence[str]") -> "Edits":
        """All that the devices ask for. Raises InvalidParameter when there is one that no file offers."""
        missing = [name for name in names if name not in self.devices]
        if missing:
            raise InvalidParameter(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}")
        made: Edits = {key: [] for key in _LISTS}
        seen: list[Edits] = []
        for name in names:
            of_file, of_device = self.devices[name]
            for edits in (of_device,) if any(of_file is one for one in seen) else (of_file, of_device):
                for key in _LISTS:
                    made[key] += edits.get(key) or ()
                if edits.get("intelRdt"):
                    made["intelRdt"] = edits["intelRdt"]
            seen.append(of_file)
        return made


def _numbered(full: str) -> bool:
    return full.partition("=")[2].isdigit()


def _files(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [f"{directory}/{name}" for name in names if name.endswith((".json", ".yaml"))]


def _read(path: str) -> "tuple[str, Edits, dict[str, Edits]]":
    """Kind, edits of the file, edits of each device. Raises ValueError for what is no CDI specification, OSError."""
    from service import jsontext, yamltext

    with open(path, encoding="utf-8") as file:
        text = file.read()
    document = jsontext.loads(text) if path.endswith(".json") else yamltext.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("cdiVersion"), str | float):
        raise ValueError("invalid spec, no cdiVersion")
    kind = str(document.get("kind") or "")
    vendor, slash, class_ = kind.partition("/")
    if not vendor or not slash or not class_:
        raise ValueError(f"invalid kind {kind!r}")
    listed = document.get("devices")
    if not isinstance(listed, list) or not listed:
        raise ValueError("invalid spec, no devices")
    devices = {}
    for device in listed:
        name = device.get("name") if isinstance(device, dict) else None
        if name is None or str(name) in devices:
            raise ValueError(f"invalid spec, multiple device {name!r}" if name is not None else "a device has no name")
        devices[str(name)] = _checked(device.get("containerEdits") or {})
    return kind, _checked(document.get("containerEdits") or {}), devices


def _checked(edits: "Any") -> "Edits":
    """Raise ValueError for edits that are not formed as the specification says."""
    if not isinstance(edits, dict) or not all(isinstance(edits.get(key) or [], list) for key in _LISTS):
        raise ValueError("containerEdits are not formed well")
    for variable in edits.get("env") or ():
        if "=" not in str(variable)[1:]:
            raise ValueError(f"invalid environment variable {variable!r}")
    for node in edits.get("deviceNodes") or ():
        if not node.get("path"):
            raise ValueError("invalid (empty) device path")
        if node.get("type") not in (None, "", "b", "c", "u", "p"):
            raise ValueError(f"device {node['path']!r}: invalid type {node['type']!r}")
        if not set(node.get("permissions") or "") <= set("rwm"):
            raise ValueError(f"device {node['path']!r}: invalid permissions {node['permissions']!r}")
    for mount in edits.get("mounts") or ():
        if not mount.get("hostPath") or not mount.get("containerPath"):
            raise ValueError("invalid mount, empty path")
    for hook in edits.get("hooks") or ():
        if hook.get("hookName") not in _HOOKS or not hook.get("path"):
            raise ValueError(f"invalid hook {hook.get('hookName')!r}")
    return edits


# --- what a request asks for ----------------------------------------------------------------------------------------


def requested(requests: "Sequence[dict[str, Any]]", registry: Registry, hook: str = "") -> "Edits":
    """What all DeviceRequests of a container ask for. `hook`: the path of NVIDIA's own hook, where it is installed.

    The hook serves NVIDIA's GPUs that no file describes, as with dockerd up to 28. Raises InvalidParameter.
    """
    names: list[str] = []
    by_hook = []
    for request in requests:
        capabilities = _for_hook(request, registry) if hook else None
        if capabilities is None:
            names += wanted(request, registry)
        else:
            by_hook.append((request, capabilities))
    made = registry.edits(names)
    for request, capabilities in by_hook:
        devices = ["all"] if (request["Count"] or 0) < 0 else _device_ids(request)
        if not devices:
            continue
        made["env"].append("NVIDIA_VISIBLE_DEVICES=" + ",".join(devices))
        if capabilities:
            made["env"].append("NVIDIA_DRIVER_CAPABILITIES=" + ",".join(capabilities))
        made["hooks"].append(
            {"hookName": "prestart", "path": hook, "args": [NVIDIA_HOOK, "prestart"], "env": ["PATH=" + PATH]}
        )
    return made


def _for_hook(request: "dict[str, Any]", registry: Registry) -> "list[str] | None":
    """The driver capabilities that a request names, when it is one for NVIDIA's hook; else None."""
    kind, can = _GPUS["nvidia"]
    if request["Driver"] not in ("", None, "nvidia") or _offered(kind, registry):
        return None
    for every in request["Capabilities"] or ():
        if can.issuperset(every):
            return [name for name in every if name not in ("gpu", "nvidia")]
    return None


def _device_ids(request: "dict[str, Any]") -> list[str]:
    """The ids that are given, or 0, 1, … as many as are asked for. Raises InvalidParameter for both."""
    count, ids = request["Count"] or 0, request["DeviceIDs"] or []
    if count and ids:
        raise InvalidParameter("cannot set both Count and DeviceIDs on device request")
    return [str(number) for number in range(count)] if count > 0 else list(ids)


def _offered(kind: str, registry: Registry) -> bool:
    return any(full.startswith(kind + "=") for full in registry.devices)


def wanted(request: "dict[str, Any]", registry: Registry) -> list[str]:
    """The CDI names that a DeviceRequest means. Raises InvalidParameter, in dockerd's words, when nothing serves it."""
    driver = request["Driver"] or ""
    if driver == DRIVER:
        if request["Count"]:
            raise InvalidParameter("unexpected count in CDI device request")
        if request["Options"]:
            raise InvalidParameter("unexpected options in CDI device request")
        return list(request["DeviceIDs"] or ())
    kind = _kind(driver, request["Capabilities"] or [], registry)
    ids = _device_ids(request)
    if (request["Count"] or 0) < 0:
        return [f"{kind}=all"] if f"{kind}=all" in registry.devices else registry.names(kind)
    return [device if "=" in device else f"{kind}={device}" for device in ids]


def _kind(driver: str, capabilities: "Sequence[Sequence[str]]", registry: Registry) -> str:
    """The kind whose driver is named, or has all capabilities of one of the alternatives, and has devices here."""
    for name, (kind, can) in _GPUS.items():
        fits = name == driver if driver else any(can.issuperset(every) for every in capabilities)
        if fits and _offered(kind, registry):
            return kind
    listed = " ".join("[" + " ".join(every) + "]" for every in capabilities)
    raise InvalidParameter(f'could not select device driver "{driver}" with capabilities: [{listed}]')


# --- what is done to the config -------------------------------------------------------------------------------------


def apply(spec: "dict[str, Any]", edits: "Edits", taken: "frozenset[str]") -> None:
    """Edit an OCI config in place. `taken`: destinations of the user's own mounts, which win.

    Raises InvalidParameter for a device node that the host does not have.
    """
    from service.runtime import environment

    process, linux = spec["process"], spec["linux"]
    process["env"] = environment.merge(process["env"], [str(variable) for variable in edits["env"]])
    for node in edits["deviceNodes"]:
        device = _device(node, process["user"])
        linux["devices"] = [other for other in linux["devices"] if other["path"] != device["path"]]
        linux["devices"].append(device)
        if device["type"] in ("b", "c"):
            numbers = {"major": device["major"], "minor": device["minor"]}
            access = node.get("permissions") or "rwm"
            linux["resources"]["devices"].append({"allow": True, "type": device["type"], **numbers, "access": access})
    _mounts(spec, [m for m in edits["mounts"] if m["containerPath"] not in taken], taken)
    for hook in edits["hooks"]:
        made = {key: hook[key] for key in ("path", "args", "env", "timeout") if hook.get(key)}
        spec.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(made)
    if edits.get("intelRdt"):
        linux["intelRdt"] = dict(edits["intelRdt"])
    groups = process["user"]["additionalGids"]
    groups += [gid for gid in dict.fromkeys(edits["additionalGids"]) if gid and gid not in groups]


def _mounts(spec: "dict[str, Any]", mounts: "Sequence[dict[str, Any]]", taken: "frozenset[str]") -> None:
    """Put the vendor's mounts before the first of the user's: what he mounts over them is what he sees."""
    replaced = {mount["containerPath"] for mount in mounts}
    kept = [mount for mount in spec["mounts"] if mount["destination"] not in replaced]
    first = next((at for at, mount in enumerate(kept) if mount["destination"] in taken), len(kept))
    made = [
        {
            "destination": mount["containerPath"],
            "type": mount.get("type") or "bind",
            "source": mount["hostPath"],
            "options": list(mount.get("options") or ()),
        }
        for mount in mounts
    ]
    made.sort(key=lambda mount: mount["destination"].count("/"))
    spec["mounts"] = [*kept[:first], *made, *kept[first:]]


def _device(node: "dict[str, Any]", user: "dict[str, Any]") -> "dict[str, Any]":
    """A device node as OCI writes it; what the file leaves out is read from the host's node."""
    import stat

    path, kind = node["path"], node.get("type") or ""
    major, minor = node.get("major") or 0, node.get("minor") or 0
    if not kind or (not major and kind != "p"):
        host_path = node.get("hostPath") or path
        try:
            found = os.lstat(host_path)
        except OSError as error:
            raise _refused(f'failed to stat CDI host device "{host_path}": {(error.strerror or "").lower()}') from error
        kinds = {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}
        there = kinds.get(stat.S_IFMT(found.st_mode))
        if there is None:
            raise _refused(f'failed to stat CDI host device "{host_path}": not a device node')
        if kind and kind != there:
            raise _refused(f'CDI device ("{path}", "{host_path}"), host type mismatch ({kind}, {there})')
        kind = there
        if not major:
            major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    made: dict[str, Any] = {"path": path, "type": kind}
    if kind != "p":
        made |= {"major": major, "minor": minor}
    if node.get("fileMode") is not None:
        made["fileMode"] = node["fileMode"]
    for key in ("uid", "gid"):
        owner = node.get(key) if node.get(key) is not None else user[key] or None
        if owner is not None:
            made[key] = owner
    return made


def _refused(words: str) -> InvalidParameter:
    return InvalidParameter(f"CDI device injection failed: failed to inject devices: {words}")

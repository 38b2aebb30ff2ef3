"""Limits of single block devices, changed while a container runs: `runc update` does not (before runc 1.4).

The files are those that runc writes at the start: cgroup v1's `blkio.throttle.*` and v2's `io.max`, and BFQ's weights
(kernel: Documentation/admin-guide/cgroup-v1/blkio-controller.rst, cgroup-v2.rst).
"""

import os

from service.errors import SystemFailure
from service.kernel import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Lines = dict[tuple[str, str, str], str]  # (file, device, key) → value

# OCI's name → v1's file, v2's key in io.max
_THROTTLES = {
    "throttleReadBpsDevice": ("blkio.throttle.read_bps_device", "rbps"),
    "throttleWriteBpsDevice": ("blkio.throttle.write_bps_device", "wbps"),
    "throttleReadIOPSDevice": ("blkio.throttle.read_iops_device", "riops"),
    "throttleWriteIOPSDevice": ("blkio.throttle.write_iops_device", "wiops"),
}
DEVICES = frozenset({"weightDevice", *_THROTTLES})  # the keys of OCI's `blockIO` that are done here
_WEIGHTS = {1: ("blkio.weight_device", "blkio.bfq.weight_device"), 2: ("io.bfq.weight",)}


def change(directory: str, version: int, wanted: "dict[str, Any]") -> None:
    """Make a cgroup limit the devices of an OCI `blockIO`, and no others.

    Raises SystemFailure when the kernel refuses one; what was written before is put back.
    """
    old, new = _present(directory, version), _lines(directory, version, wanted)
    done: Lines = {}
    try:
        for place in {**old, **new}:
            if old.get(place) != new.get(place):
                _write(directory, place, new.get(place, ""))
                done[place] = old.get(place, "")
    except OSError as error:
        for place, value in done.items():
            _write(directory, place, value)
        raise SystemFailure(
            f"failed to write to {os.path.basename(str(error.filename))} for device {place[1]}: "
            f"{(error.strerror or '').lower()}"
        ) from error


def _present(directory: str, version: int) -> "Lines":
    """What the files say now: lines `8:0 100`, in io.max `8:0 rbps=100 wbps=max …`."""
    throttles = {file for file, _ in _THROTTLES.values()} if version == 1 else {"io.max"}
    found: Lines = {}
    for file in sorted({*throttles, *_WEIGHTS[version]}):
        try:
            text = cgroup.read(f"{directory}/{file}")
        except FileNotFoundError:
            continue
        for line in text.splitlines():
            device, _, values = line.partition(" ")
            for value in values.split() if ":" in device else ():
                key, equals, number = value.rpartition("=")
                if number != "max":
                    found[(file, device, key if equals else "")] = number
    return found


def _lines(directory: str, version: int, block_io: "dict[str, Any]") -> "Lines":
    made: Lines = {}
    for name, (file, key) in _THROTTLES.items():
        for item in block_io.get(name) or ():
            place = (file, _number(item), "") if version == 1 else ("io.max", _number(item), key)
            made[place] = str(item["rate"]) if item["rate"] else ""
    weights = [file for file in _WEIGHTS[version] if os.path.exists(f"{directory}/{file}")]
    for item in block_io.get("weightDevice") or () if weights else ():
        made[(weights[0], _number(item), "")] = str(item["weight"])
    return made


def _number(item: "dict[str, Any]") -> str:
    return f"{item['major']}:{item['minor']}"


def _write(directory: str, place: tuple[str, str, str], value: str) -> None:
    """One line of one file; no value takes the limit off. Raises OSError."""
    file, device, key = place
    if not value:
        value = "max" if key else "default" if "bfq" in file else "0"
    cgroup.write(f"{directory}/{file}", f"{device} {key}={value}" if key else f"{device} {value}")

"""An image's configuration (OCI image-spec config.md; Docker's is the same with more keys). Pure."""

import hashlib

from service import jsontext, timestamps
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# Go's names of machines (GOARCH) by uname's; a few have a variant too
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}


def digest(content: bytes) -> str:
    """sha256:… of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def parse(content: bytes) -> "dict[str, Any]":
    """The configuration. Raises InvalidParameter when it is not one of a Linux image."""
    try:
        config = jsontext.loads(content)
    except ValueError as error:
        raise InvalidParameter(f"invalid image JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("rootfs"), dict):
        raise InvalidParameter("invalid image JSON, no RootFS key")
    diff_ids = config["rootfs"].get("diff_ids") or []
    if not isinstance(diff_ids, list) or not all(_is_sha256(diff_id) for diff_id in diff_ids):
        raise InvalidParameter("invalid image JSON: invalid rootfs.diff_ids")
    if config.get("os", "linux") not in ("linux", ""):
        raise InvalidParameter(f"cannot load {config['os']} image on linux")
    return config


def _is_sha256(text: object) -> bool:
    return (
        isinstance(text, str) and len(text) == 71 and text[:7] == "sha256:" and not text[7:].strip("0123456789abcdef")
    )


def diff_ids(config: "dict[str, Any]") -> "list[str]":
    """The digests of the layers' tars, lowest first."""
    return config["rootfs"].get("diff_ids") or []


def chain_ids(diff_ids: "Sequence[str]") -> "list[str]":
    """The names of the stacks of layers, lowest first (OCI image-spec config.md, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


def created_ns(config: "dict[str, Any]") -> int:
    """When it was made, in nanoseconds since 1970; 0 when it does not say."""
    try:
        return timestamps.nanoseconds(config.get("created") or timestamps.NEVER)
    except ValueError:
        return 0


def host_platform() -> tuple[str, str, str]:
    """This machine: os, architecture, variant, in Go's names."""
    import os

    machine = os.uname().machine
    return ("linux", *_MACHINES.get(machine, (machine, "")))

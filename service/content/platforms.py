"""Platforms: os[/architecture[/variant]], as `--platform` takes them and images state them. Pure."""

from service.content.image_config import host_platform
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Platform = tuple[str, str, str]  # os, architecture, variant; Go's names

_SYNONYMS = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "i386": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_ARCHITECTURES = frozenset(
    (
        *("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le"),
        *("riscv64", "s390x", "wasm"),
    )
)
_SYSTEMS = frozenset(("linux", "windows", "darwin", "freebsd", "wasip1"))


def parse(text: str) -> "Platform":
    """Read a platform; what is left out is this machine's. Raises InvalidParameter in the words of containerd."""
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(
        part and part.replace("_", "").replace("-", "").replace(".", "").isalnum() for part in parts
    ):
        raise InvalidParameter(
            f'"{text}" is an invalid component of "{text}": platform specifier component must match '
            '"^[A-Za-z0-9_.-]+$": invalid argument'
        )
    host = host_platform()
    if len(parts) == 1:
        if parts[0] in _SYSTEMS:
            return _normal(parts[0], host[1], host[2])
        architecture, variant = _SYNONYMS.get(parts[0], (parts[0], ""))
        if architecture in _ARCHITECTURES:
            return _normal("linux", architecture, variant)
        raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
    architecture, variant = _SYNONYMS.get(parts[1], (parts[1], ""))
    return _normal(parts[0], architecture, parts[2] if len(parts) == 3 else variant)


def from_json(text: str) -> "Platform":
    """Read the JSON form of newer parameters. Raises InvalidParameter."""
    from service import jsontext

    try:
        given = jsontext.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from None
    if not isinstance(given, dict):
        raise InvalidParameter("failed to parse platform")
    if not given.get("os") or not given.get("architecture"):
        raise InvalidParameter("both OS and Architecture must be provided")
    return _normal(str(given["os"]), str(given["architecture"]), str(given.get("variant") or ""))


def _normal(system: str, architecture: str, variant: str) -> "Platform":
    """Two spellings of one platform become one: arm64 is arm64/v8, amd64/v1 is amd64, arm is arm/v7."""
    if architecture == "arm64" and variant in ("v8", "8"):
        variant = ""
    elif architecture == "arm":
        variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    elif architecture == "amd64" and variant == "v1":
        variant = ""
    return system, architecture, variant


def stated(source: "Mapping[str, Any]") -> "Platform":
    """The platform that a configuration or a descriptor's `platform` states."""
    return _normal(source.get("os") or "linux", source.get("architecture") or "", source.get("variant") or "")


def matches(wanted: "Platform", source: "Mapping[str, Any]") -> bool:
    """Whether what `source` states runs where `wanted` is asked for: an older arm variant runs on a newer."""
    return rank(wanted, source) >= 0


def rank(wanted: "Platform", source: "Mapping[str, Any]") -> int:
    """How well `source` fits: -1 not at all, 0 exactly, else the higher the worse."""
    system, architecture, variant = stated(source)
    if (system, architecture) != wanted[:2]:
        return -1
    if variant == wanted[2] or not source.get("variant"):
        return 0 if variant == wanted[2] else 10
    if architecture in ("arm", "amd64"):
        have, want = _level(variant), _level(wanted[2])
        return want - have if 0 <= have <= want else -1
    return -1


def _level(variant: str) -> int:
    digits = variant.removeprefix("v")
    return int(digits) if digits.isdigit() else 1 if not variant else -1


def text(platform: "Platform") -> str:
    """As people write it."""
    return "/".join(part for part in platform if part)


def of(config: "Mapping[str, Any]") -> str:
    """The platform of a configuration, as people write it."""
    return text((config.get("os") or "linux", config.get("architecture") or "", config.get("variant") or ""))


def host() -> "Platform":
    """This machine's."""
    return _normal(*host_platform())

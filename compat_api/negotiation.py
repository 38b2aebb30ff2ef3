"""Which API version a request asks for, and what every answer says about the server.

Versions from 1.24 to the newest are served, and paths without a version as the newest. The texts are dockerd's.
"""

import os

from service import version as numbers
from service.errors import InvalidParameter

API_VERSION = numbers.API
MINIMUM_API_VERSION = numbers.API_MINIMUM
ENGINE_VERSION = numbers.DOCKER

_EXPERIMENTAL = b"Docker-Experimental"
_HEADERS: "tuple[tuple[bytes, bytes], ...]" = (
    (b"Api-Version", b"%d.%d" % API_VERSION),
    (_EXPERIMENTAL, b"false"),
    (b"Ostype", b"linux"),
    (b"Server", b"Docker/%s (linux)" % ENGINE_VERSION.encode()),
)
_followed: "list[str]" = []  # the file that says whether we are experimental (daemon.json)


def follow(path: str) -> None:
    """Say in every answer from now on what the file at `path` says."""
    _followed[:] = [path]


def headers() -> "tuple[tuple[bytes, bytes], ...]":
    """What every answer says about the server."""
    if not any(map(os.path.exists, _followed)):
        return _HEADERS  # nothing is imported for a file that most machines do not have
    from service import daemon_json

    said = b"true" if daemon_json.readable(_followed[0]).experimental else b"false"
    return tuple((name, said if name is _EXPERIMENTAL else value) for name, value in _HEADERS)


def split(path: str) -> tuple[str, str]:
    """(the version's text or "", the path without it) of a decoded path such as /v1.44/containers/json."""
    if path[:2] == "/v":
        text, slash, rest = path[2:].partition("/")
        if slash and text and not text.strip("0123456789."):
            return text, "/" + rest
    return "", path


def version(text: str) -> tuple[int, int]:
    """The version that the path's text means. Raises InvalidParameter for one that is not served."""
    if not text:
        return API_VERSION
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    asked = (int(major or "0"), int(minor or "0"))
    if asked < MINIMUM_API_VERSION:
        raise InvalidParameter(
            f"client version {text} is too old. Minimum supported API version is "
            f"{spell(MINIMUM_API_VERSION)}, please upgrade your client to a newer version"
        )
    if asked > API_VERSION:
        raise InvalidParameter(
            f"client version {text} is too new. Maximum supported API version is {spell(API_VERSION)}"
        )
    return asked


# docker-py (by that name in docker-compose 1), what Ansible has made of it, and aiodocker, which says no more than this
_TRUSTING = ("docker-sdk-python/", "docker-py/", "ansible-community.docker", "aiohttp/")


def named_to(user_agent: str) -> tuple[int, int]:
    """The version that `GET /version` names as the newest to a client of that User-Agent.

    Go's clients come down to what they know. Python's ask in whatever version they are told, and scripts that use them
    read what went with 1.52; so they are told the one before. They may ask in a newer one all the same.
    """
    trusting = any(product in user_agent for product in _TRUSTING)
    return numbers.API_BEFORE_FIELDS_WENT if trusting else API_VERSION


def spell(asked: tuple[int, int]) -> str:
    """A version as text: "1.44"."""
    return f"{asked[0]}.{asked[1]}"

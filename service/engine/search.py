"""`search`: images that a registry's index knows by a word (API: ImageSearch)."""

from service.content import registry_hosts
from service.content.reference import DEFAULT_DOMAIN, Reference
from service.content.registry import Registry, RegistryError, Unreachable
from service.content.registry_credentials import Credentials
from service.engine.image_filters import boolean
from service.errors import InvalidParameter, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.engine.engine import Engine

_INDEX = "index.docker.io"
_LARGEST = 100


async def search(
    engine: "Engine", term: str, limit: int, filters: "Mapping[str, list[str]]", credentials: Credentials
) -> "list[dict[str, Any]]":
    """Docker's search results; `credentials` are for the index that the term names.

    Raises InvalidParameter, or SystemFailure when the index cannot be asked.
    """
    for name in filters:
        if name not in ("is-automated", "is-official", "stars"):
            raise InvalidParameter(f"invalid filter '{name}'")
    official = boolean(filters, "is-official")
    stars = [int(text) if text.isdigit() else -1 for text in filters.get("stars", ())]
    if -1 in stars:
        raise InvalidParameter(f"invalid filter 'stars={filters['stars'][0]}'")
    if not 0 <= limit <= _LARGEST:
        raise InvalidParameter(f"limit {limit} is outside the range of [1, {_LARGEST}]")
    if "://" in term:
        raise InvalidParameter("invalid repository name: repository name (" + term + ") should not have a scheme")
    if boolean(filters, "is-automated"):
        return []  # nothing is called so any more
    results = await _ask(engine, term, limit or 25, credentials)
    return [
        result
        for result in results
        if (official is None or bool(result["is_official"]) is official)
        and all(result["star_count"] >= wanted for wanted in stars)
    ]


async def _ask(engine: "Engine", term: str, limit: int, credentials: Credentials) -> "list[dict[str, Any]]":
    first, slash, rest = term.partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    domain, words = (first, rest) if named else (DEFAULT_DOMAIN, term.removeprefix("library/"))
    place = registry_hosts.host(engine.settings, domain)
    if domain in (DEFAULT_DOMAIN, _INDEX):
        place = registry_hosts.Host(_INDEX, ("https",), insecure=False)
    async with Registry(engine.settings, Reference(place.domain, ""), credentials, place) as registry:
        try:
            results = await registry.search(words, limit)
        except Unreachable as error:
            if place.name == _INDEX:
                raise
            raise InvalidParameter(f"invalid registry endpoint https://{place.name}/v1/: {error.message}") from error
        except RegistryError as error:
            raise SystemFailure(f"Unexpected status code {error.status}") from error
    try:
        return [
            {
                "star_count": int(result.get("star_count") or 0),
                "is_official": bool(result.get("is_official")),
                "name": str(result.get("name") or ""),
                "is_automated": False,
                "description": str(result.get("description") or ""),
            }
            for result in results
        ]
    except (AttributeError, ValueError, TypeError):
        raise SystemFailure("error decoding registry search results") from None

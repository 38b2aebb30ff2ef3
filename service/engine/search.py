"""`search`: images that a registry's index knows by a word (API: ImageSearch)."""

from service.content.reference import DEFAULT_DOMAIN
from service.content.registry_hosts import may_be_insecure, proxy
from service.engine.image_filters import boolean
from service.errors import InvalidParameter, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.engine.engine import Engine

_INDEX = "index.docker.io"
_LARGEST = 100


async def search(engine: "Engine", term: str, limit: int, filters: "Mapping[str, list[str]]") -> "list[dict[str, Any]]":
    """Docker's search results. Raises InvalidParameter, or SystemFailure when the index cannot be asked."""
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
    results = await _ask(engine, term, limit or 25)
    return [
        result
        for result in results
        if (official is None or bool(result["is_official"]) is official)
        and all(result["star_count"] >= wanted for wanted in stars)
    ]


async def _ask(engine: "Engine", term: str, limit: int) -> "list[dict[str, Any]]":
    import aiohttp

    first, slash, rest = term.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    domain, words = (first, rest) if named else (DEFAULT_DOMAIN, term)
    scheme = "http" if domain != DEFAULT_DOMAIN and may_be_insecure(engine.settings, domain) else "https"
    url = f"{scheme}://{_INDEX if domain == DEFAULT_DOMAIN else domain}/v1/search"
    try:
        timeout = aiohttp.ClientTimeout(total=30)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(
                url, params={"q": words, "n": str(limit)}, proxy=proxy(engine.settings, url) or None
            ) as response,
        ):
            if response.status != 200:
                raise SystemFailure(f"Unexpected status code {response.status}")
            found = (await response.json(content_type=None)).get("results") or []
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise SystemFailure(f'Get "{url}?n={limit}&q={words}": {error or "i/o timeout"}') from error
    return [
        {
            "star_count": int(result.get("star_count") or 0),
            "is_official": bool(result.get("is_official")),
            "name": str(result.get("name") or ""),
            "is_automated": False,
            "description": str(result.get("description") or ""),
        }
        for result in found
    ]

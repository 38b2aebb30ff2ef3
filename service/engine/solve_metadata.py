"""What a client may ask within a build about an image, before (or without) building upon it: its configuration.

Of an image of this machine no manifest's digest is told, as by dockerd; one of a registry is not pulled: its manifest
and its configuration are.
"""

from service.content import platforms
from service.content import reference as references
from service.content.remote_manifest import RemoteManifest
from service.engine import images
from service.engine.solving import SolveFailed
from service.errors import MoorageError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.content.reference import Reference
    from service.content.registry import Registry
    from service.content.registry_credentials import Credentials
    from service.engine.engine import Engine

PULL = "pull"  # mode: a registry is asked, whatever is here


async def image(
    engine: "Engine", name: str, mode: str, platform: str, credentials: "Callable[[str], Awaitable[Credentials]]"
) -> "tuple[str, bytes]":
    """(digest of its manifest, configuration). `credentials`: the client's for a registry. Raises SolveFailed."""
    try:
        reference = references.parse(name)
    except MoorageError:
        raise SolveFailed(f'could not parse reference "{name}": invalid reference format') from None
    where = f"failed to resolve source metadata for {reference}: "
    if reference.is_name_only:
        raise SolveFailed(f"{where}object required")
    if mode != PULL:
        try:
            return "", await engine.thread(_here, engine, name, platform)
        except NotFound:
            pass
    try:
        wanted = platforms.parse(platform) if platform else platforms.host()
        return await _there(engine, reference, wanted, await credentials(reference.domain))
    except MoorageError as error:
        raise SolveFailed(where + error.message) from None


def _here(engine: "Engine", name: str, platform: str) -> bytes:
    found = images.find(engine, name, platform)
    if not platform and images.foreign(found):
        raise NotFound(f"No such image: {name}")
    return found.row.config.encode()


async def _there(
    engine: "Engine", reference: "Reference", wanted: "platforms.Platform", credentials: "Credentials"
) -> "tuple[str, bytes]":
    async def ask(registry: "Registry") -> RemoteManifest:
        return RemoteManifest(reference, *(await registry.manifest(reference.digest or reference.tag)))

    from service.engine import registry_lookup  # as the pull: loaded when it is wanted

    registry, manifest = await registry_lookup.first(engine, reference, credentials, ask)
    try:
        digest = manifest.digest
        if manifest.is_index:
            manifest = RemoteManifest(reference, *(await registry.manifest(manifest.choose(wanted))))
        return digest, await registry.document(manifest.config.digest)
    finally:
        await registry.close()

"""An image of a client's OCI layout (`--build-context name=oci-layout://…`): blobs come over the session, by digest."""

import hashlib

from service import jsontext
from service.content import platforms
from service.content.reference import is_digest
from service.content.remote_manifest import RemoteManifest
from service.engine import solve_told
from service.errors import InvalidParameter, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Any

    from service.content.platforms import Platform
    from service.engine.solve import Solve
    from service.engine.solve_told import Step
    from service.engine.solving import Session
    from service.store.images import LayerRow

_LARGEST = 4 << 20  # bytes of a manifest or a configuration, as for those of registries


class Layout:
    """A layout as a source of blobs (`pull.Source`)."""

    named = ""  # no registry is known to have them

    def __init__(self, session: "Session", store: str) -> None:
        """`store`: the name by which the client serves it (`oci:…`, `local:…`)."""
        self.session, self.store = session, store

    async def document(self, digest: str) -> bytes:
        """A small blob, verified. Raises SystemFailure."""
        content = b""
        async for piece in self.blob(digest):
            content += piece
            if len(content) > _LARGEST:
                raise SystemFailure(f"{digest} is larger than the {_LARGEST} bytes that a document may have")
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise SystemFailure(f"the client's {digest} has other content")
        return content

    def blob(self, digest: str, offset: int = 0) -> "AsyncIterator[bytes]":
        """A blob's content from `offset` on."""
        return self.session.blob(self.store, digest, offset)


async def image(solve: "Solve", name: str, layout: str, platform: str) -> "tuple[dict[str, Any], list[LayerRow]]":
    """The configuration and the layers of the image that `layout` (`store[:tag]@digest`) means. Raises MoorageError."""
    store, _, digest = layout.partition("@")
    if not is_digest(digest):
        raise InvalidParameter(f"invalid reference format: oci-layout://{layout} names no digest")
    wanted = platforms.parse(platform) if platform else platforms.host()
    async with solve.step(f"[context {name}] OCI load from client", f"layout {layout} {platform}") as step:
        source = Layout(solve.session, f"oci:{store.partition(':')[0]}")
        found = await _loaded(solve, source, name, digest, wanted, step)
        solve.used.place(f"oci-layout://{name}@{digest}", digest)
        return found


async def cache(
    solve: "Solve", attributes: "Mapping[str, str]", wanted: "Platform", step: "Step"
) -> "tuple[dict[str, Any], list[LayerRow]]":
    """The image of `--cache-from type=local`: its client has looked up the digest. Raises MoorageError."""
    digest = attributes.get("digest") or ""
    if not is_digest(digest):
        raise InvalidParameter("local cache importer requires digest")
    source = Layout(solve.session, f"local:{attributes.get('src') or ''}")
    return await _loaded(solve, source, attributes.get("src") or "", digest, wanted, step)


async def _loaded(
    solve: "Solve", source: Layout, name: str, digest: str, wanted: "Platform", step: "Step"
) -> "tuple[dict[str, Any], list[LayerRow]]":
    from service.engine import pull  # as that of a base: loaded when it is wanted

    manifest = RemoteManifest(name, digest, "", await source.document(digest))
    if manifest.is_index:
        chosen = manifest.choose(wanted)
        manifest = RemoteManifest(name, chosen, "", await source.document(chosen))
        if manifest.is_index:
            raise InvalidParameter("unsupported manifest format")
    config, rows = await pull.fetched(
        solve.engine, source, solve.lease, manifest, lambda message: solve_told.pulled(step, message)
    )
    document: dict[str, Any] = jsontext.loads(config)
    return document, rows

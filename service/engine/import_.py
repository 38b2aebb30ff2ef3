"""`import`: a file system in a tar becomes an image of one layer (API: ImageCreate with fromSrc)."""

from service import bell, jsontext, timestamps
from service.content import image_config, platforms, tarball
from service.engine import flushing, image_events
from service.engine.changes import apply
from service.engine.layers import Lease, held_layer, image_row, register
from service.errors import InvalidParameter, SystemFailure
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import Any

    from service.content.reference import Reference
    from service.engine.engine import Engine


async def fetched(engine: "Engine", source: str) -> "AsyncIterator[bytes]":
    """What an HTTP server has at `source`. Raises InvalidParameter, or SystemFailure when it cannot be had."""
    import aiohttp

    from service.content.registry_hosts import proxy

    url = source if "://" in source else f"http://{source}"
    if not url.startswith(("http://", "https://")):
        raise InvalidParameter(f"invalid URL: {source}")
    try:
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.get(url, proxy=proxy(engine.settings, url) or None) as response,
        ):
            if response.status >= 400:
                raise SystemFailure(f"failed to GET {url} with status {response.status} {response.reason}")
            async for piece in response.content.iter_chunked(1 << 20):
                yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise SystemFailure(f'Get "{url}": {error}') from error


def import_(
    engine: "Engine",
    read: "Callable[[int], bytes]",
    target: "Reference | None",
    *,
    message: str,
    changes: "Sequence[str]" = (),
    platform: str = "",
) -> str:
    """Make the image, and tag it; its id. Blocking.

    Raises InvalidParameter for bad changes, SystemFailure for a bad tar.
    """
    system, architecture, variant = platforms.parse(platform) if platform else image_config.host_platform()
    config: dict[str, Any] = {}
    apply(config, changes)
    with Lease(engine) as lease:
        layer = tarball.store_layer(engine.settings, read)
        unpacked, layer.unpacked = layer.unpacked, None
        assert unpacked is not None
        with engine.store.write():
            store.add_layer_blob(engine.store, layer.diff_id, layer.blob, layer.media_type, layer.blob_size)
        row = held_layer(engine, lease, layer.diff_id)
        if row is None:
            row = register(engine, lease, unpacked, layer.diff_id, [])
        else:
            unpacked.discard()
        created = timestamps.now()
        document = {
            "architecture": architecture,
            **({"variant": variant} if variant else {}),
            "comment": message,
            "created": created,
            "config": config,
            "os": system,
            "history": [{"created": created, "comment": message}],
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        }
        return _register(engine, image_row(jsontext.dump_bytes(document), [row]), row.chain_id, target)


def _register(engine: "Engine", image: store.ImageRow, chain_id: str, target: "Reference | None") -> str:
    with engine.store.write():
        store.insert(engine.store, image, [chain_id])
        if target is not None:
            store.tag(engine.store, target.stored, image.id, timestamps.now_ns())
            image_events.record(engine.store, "tag", image, target.familiar)
        image_events.record(engine.store, "import", image, image.id)
    flushing.soon(engine)
    bell.ring(engine.settings.bell)
    return image.id

"""`push`: an image to a registry (API: ImagePush).

The manifest that an image came with is pushed again as it is, so that its digest stays; else one is made (Docker's
schema 2) from the configuration and the layers' blobs. A blob that the registry has is not sent; one that another of
its repositories is known to have is mounted from there.
"""

import asyncio
import math
from functools import partial

from service import bell, daemon_json
from service.content import blobs, image_config
from service.content.reference import Reference, familiar
from service.content.registry import Interrupted, Registry, RegistryError
from service.content.registry_credentials import Credentials
from service.engine import image_events, manifests, progress
from service.engine.layers import Lease
from service.engine.manifests import LayerBlob
from service.errors import MoorageError, NotFound, SystemFailure, Unauthorized
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from service.engine.engine import Engine

UPLOADS = 5  # at a time, as dockerd's max-concurrent-uploads
ATTEMPTS = 5
RETRY_STEP = 1  # seconds that each attempt waits longer than the one before
_SHOWN_EVERY = 0.1  # seconds between two bars of one layer
_PIECE = 1 << 20


async def push(engine: "Engine", reference: Reference, credentials: Credentials) -> "AsyncIterator[dict[str, Any]]":
    """Push one tag, or (without a tag) every tag of the repository. Raises MoorageError between its messages."""
    yield progress.message(f"The push refers to repository [{reference.repository}]")
    names = [name for name, _ in store.tags_in(engine.store, reference.repository)]
    if not names:
        raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_repository}")
    if reference.tag:
        names = [reference.stored]
    async with Registry(engine.settings, reference, credentials) as registry:
        registry.scopes = {f"repository:{reference.path}:pull,push"}
        for name in names:
            async for message in _push_one(engine, registry, name):
                yield message


async def _push_one(engine: "Engine", registry: Registry, name: str) -> "AsyncIterator[dict[str, Any]]":
    image_id = store.by_reference(engine.store, name)
    if image_id is None:
        raise NotFound(f"tag does not exist: {familiar(name)}")
    tag = name.rpartition(":")[2]
    async with Lease(engine) as lease:
        work = await engine.thread(_Push, engine, registry, lease, image_id)
        task = asyncio.ensure_future(work.run(tag))
        try:
            while (message := await work.messages.get()) is not None:
                yield message
            digest, size = await task
        except RegistryError as error:
            raise _refusal(error) from error
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    await engine.thread(_register, engine, image_id, name, digest)
    yield progress.message(f"{tag}: digest: {digest} size: {size}")
    yield {"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}


def _register(engine: "Engine", image_id: str, name: str, digest: str) -> None:
    repository = name.rpartition(":")[0]
    with engine.store.write():
        if store.exists(engine.store, image_id):
            store.add_digest(engine.store, f"{repository}@{digest}", image_id)
            image_events.record(
                engine.store, "push", store.get(engine.store, image_id), familiar(repository), actor=familiar(name)
            )
    bell.ring(engine.settings.bell)


def _refusal(error: RegistryError) -> MoorageError:
    """A refusal in the words of dockerd's push."""
    if error.code == "DENIED":
        return Unauthorized(error.message)
    return error


class _Push:
    """One image on its way out."""

    def __init__(self, engine: "Engine", registry: Registry, lease: Lease, image_id: str) -> None:
        self.engine, self.registry, self.lease, self.image_id = engine, registry, lease, image_id
        self.messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.uploads = asyncio.Semaphore(daemon_json.read(engine.settings.daemon_json).uploads or UPLOADS)
        database = engine.store
        with database.write(durable=False):
            layers = store.layers_of(database, image_id)
            lease.hold(*(layer.chain_id for layer in layers))
        manifests.pack(engine, lease, layers)
        with database.write():
            self.row = store.get(database, image_id)
            self.blobs = manifests.layer_blobs(engine, image_id)
            lease.hold(*(blob.digest for blob in self.blobs), *filter(None, [self.row.manifest]))
        self.config = self.row.config.encode()

    async def run(self, tag: str) -> "tuple[str, int]":
        """Send what is missing, then the manifest; its digest and size. The end of `messages` is always told."""
        try:
            return await self._run(tag)
        finally:
            self.messages.put_nowait(None)

    async def _run(self, tag: str) -> "tuple[str, int]":
        for blob in reversed(self.blobs):
            self.messages.put_nowait(progress.update(_shown(blob), "Preparing"))
        await self.registry.connect()
        await self.registry.has_blob(self.image_id)  # authenticates once, before several would at the same time
        by_layer = {blob.diff_id: blob for blob in self.blobs}
        for diff_id, blob in by_layer.items():
            by_layer[diff_id] = await self.engine.thread(manifests.compressed, self.engine, self.lease, blob)
        self.blobs = [by_layer[blob.diff_id] for blob in self.blobs]
        each_once = {blob.digest: blob for blob in reversed(self.blobs)}
        tasks = [asyncio.ensure_future(self._send(blob)) for blob in each_once.values()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not await self.registry.has_blob(self.image_id):
            await self.registry.upload(self.image_id, self._of_config, len(self.config))
        media_type, content = await self.engine.thread(
            lambda: manifests.manifest(self.engine, self.row, self.blobs, oci=False)
        )
        await self.registry.put_manifest(tag, media_type, content)
        return image_config.digest(content), len(content)

    async def _send(self, blob: LayerBlob) -> None:
        if self.uploads.locked():
            self.messages.put_nowait(progress.update(_shown(blob), "Waiting"))
        async with self.uploads:
            location = ""
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await self._attempt(blob, location)
                    break
                except Interrupted as error:
                    if attempt == ATTEMPTS:
                        raise SystemFailure(error.message) from error
                    location = error.location
                    after = max(attempt * RETRY_STEP, math.ceil(error.after))
                await progress.count_down(self.messages.put_nowait, _shown(blob), after)
        await self.engine.thread(self._note, blob)

    async def _attempt(self, blob: LayerBlob, begun: str = "") -> None:
        """Let the registry have a blob; `begun` is where an upload of it broke off."""
        if await self.registry.has_blob(blob.digest):
            self.messages.put_nowait(progress.update(_shown(blob), "Layer already exists"))
            return
        if begun:
            await self.registry.resume(blob.digest, partial(self._pieces, blob), blob.size, begun)
            self.messages.put_nowait(progress.update(_shown(blob), "Pushed"))
            return
        location = ""
        for repository in blob.repositories:
            domain, _, source = repository.partition("/")
            if domain != self.registry.domain or source == self.registry.repository:
                continue
            try:
                place = await self.registry.mount(blob.digest, source)
            except RegistryError:
                continue  # not ours to read: upload it
            if place is None:
                self.messages.put_nowait(progress.update(_shown(blob), f"Mounted from {source}"))
                return
            location = place
        await self.registry.upload(blob.digest, partial(self._pieces, blob), blob.size, location)
        self.messages.put_nowait(progress.update(_shown(blob), "Pushed"))

    async def _pieces(self, blob: LayerBlob, offset: int, length: int) -> "AsyncIterator[bytes]":
        loop = asyncio.get_running_loop()
        sent, end, told = offset, offset + length, 0.0
        file = await self.engine.thread(blobs.opened, self.engine.settings, blob.digest)
        try:
            file.seek(offset)
            while sent < end and (piece := await self.engine.thread(file.read, min(_PIECE, end - sent))):
                yield piece
                sent += len(piece)
                if loop.time() - told > _SHOWN_EVERY or sent == blob.size:
                    told = loop.time()
                    self.messages.put_nowait(progress.bar(_shown(blob), "Pushing", sent, blob.size))
        finally:
            file.close()

    async def _of_config(self, offset: int, length: int) -> "AsyncIterator[bytes]":
        yield self.config[offset : offset + length]

    def _note(self, blob: LayerBlob) -> None:
        """Remember that the registry has it, for mounting from there."""
        with self.engine.store.write():
            where = f"{self.registry.domain}/{self.registry.repository}"
            store.add_layer_blob(self.engine.store, blob.diff_id, blob.digest, blob.media_type, blob.size, where)


def _shown(blob: LayerBlob) -> str:
    return blob.diff_id[7:19]

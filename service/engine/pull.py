"""`pull`: an image from a registry (API: ImageCreate with fromImage).

The point of no return is the first message: it comes when the manifest is here. Until then an error is a status.
Layers are downloaded several at a time and unpacked as they arrive; each is registered on top of the one below it. A
download that broke off goes on where it stopped, in this pull or in a later one.
"""

import asyncio
import contextlib
import math

from service import bell, daemon_json, timestamps
from service.content import blobs, image_config, platforms, tarball
from service.content import layers as unpacking
from service.content.reference import Reference
from service.content.registry import Interrupted, Registry, RegistryError, pull_refusal
from service.content.registry_credentials import Credentials
from service.content.remote_manifest import Descriptor, RemoteManifest
from service.engine import flushing, image_events, progress, registry_lookup
from service.engine.layers import Lease, held_layer, image_row, register
from service.errors import InvalidParameter, SystemFailure
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from typing import Any, Protocol

    from service.content.platforms import Platform
    from service.engine.engine import Engine
    from service.store.images import ImageRow, LayerRow

    class Source(Protocol):
        """Who has the blobs of an image: a `Registry`, or a client's layout. `named`: the repository, if it is one."""

        named: str

        async def document(self, digest: str) -> bytes:
            """A small blob, verified. Raises MoorageError."""

        def blob(self, digest: str, offset: int = 0) -> AsyncIterator[bytes]:
            """A blob's content from `offset` on; the first item is b"" when it begins at 0 all the same.

            Raises MoorageError; Interrupted for what may be tried again.
            """


DOWNLOADS = 3  # at a time, as dockerd's max-concurrent-downloads
UNPACKING = 2  # at a time: each keeps about one processor busy
ATTEMPTS = 5
RETRY_STEP = 1  # seconds that each attempt waits longer than the one before
_SHOWN_EVERY = 0.1  # seconds between two bars of one layer

_downloading: "dict[tuple[str, str], asyncio.Lock]" = {}


async def pull(
    engine: "Engine",
    reference: Reference,
    credentials: Credentials,
    platform: str = "",
    outcome: "Outcome | None" = None,
) -> "AsyncIterator[dict[str, Any]]":
    """Pull one image, yielding Docker's messages. Raises MoorageError, before or between them."""
    reference = reference.with_default_tag()
    outcome = outcome or Outcome()
    async for message in _pulled(engine, reference, credentials, platform, outcome):
        yield message
    yield progress.message(f"Status: {outcome.told} for {reference.familiar}")
    if outcome.mismatch:
        yield progress.message(f"WARNING: image with reference {reference.familiar} was found but {outcome.mismatch}")


async def pull_all(
    engine: "Engine", reference: Reference, credentials: Credentials, platform: str = ""
) -> "AsyncIterator[dict[str, Any]]":
    """Pull every tag of a repository. Raises as `pull`."""
    try:
        registry, tags = await registry_lookup.first(engine, reference, credentials, Registry.tags)
    except RegistryError as error:
        raise pull_refusal(error, reference) from error
    await registry.close()
    outcome = Outcome()
    for tag in tags:
        tagged = Reference(reference.domain, reference.path, tag)
        async for message in _pulled(engine, tagged, credentials, platform, outcome):
            yield message
    yield progress.message(f"Status: {outcome.told} for {reference.familiar}")


class Outcome:
    """What came of a pull: the image, whether a name means something new, and what is odd about its platform.

    `keeps_names`: a tag that means an image already goes on to mean that one.
    """

    def __init__(self, *, keeps_names: bool = False) -> None:
        self.keeps_names = keeps_names
        self.id = ""
        self.fresh = False
        self.mismatch = ""

    @property
    def told(self) -> str:
        """In dockerd's words."""
        return "Downloaded newer image" if self.fresh else "Image is up to date"


async def _pulled(
    engine: "Engine", reference: Reference, credentials: Credentials, platform: str, outcome: Outcome
) -> "AsyncIterator[dict[str, Any]]":
    """The messages of one reference up to its digest."""
    wanted = platforms.parse(platform) if platform else platforms.host()
    name = reference.digest or reference.tag

    async def ask(registry: Registry) -> "tuple[str, RemoteManifest | None]":
        """The manifest; or only its digest, when the image that it means for our platform is here already."""
        digest = await registry.digest_of(name)
        here: bool = await engine.thread(_retagged, engine, reference, digest, wanted, outcome)
        if here:
            return digest, None
        manifest = RemoteManifest(reference, *(await registry.manifest(name)))
        return manifest.digest, manifest

    try:
        registry, (digest, manifest) = await registry_lookup.first(engine, reference, credentials, ask)
    except RegistryError as error:
        raise pull_refusal(error, reference) from error
    try:
        yield progress.message(f"Pulling from {reference.path}", name)
        if manifest is None:
            yield progress.message(f"Digest: {digest}")
            return
        if manifest.is_index:
            manifest = RemoteManifest(reference, *(await registry.manifest(manifest.choose(wanted))))
            if manifest.is_index:
                raise InvalidParameter("unsupported manifest format")
        async with Lease(engine) as lease:
            work = _Pull(engine, registry, lease, manifest)
            try:
                async with contextlib.aclosing(work.told()) as messages:
                    async for message in messages:
                        yield message
            except RegistryError as error:
                raise pull_refusal(error, reference) from error
            config, rows = work.result
            await engine.thread(_register, engine, reference, digest, manifest, config, rows, outcome)
    finally:
        await registry.close()
    if platform and not platforms.matches(wanted, parsed := image_config.parse(config)):
        outcome.mismatch = (
            f"its platform ({platforms.of(parsed)}) does not match the specified platform ({platforms.text(wanted)})"
        )
    yield progress.message(f"Digest: {digest}")


async def fetched(
    engine: "Engine",
    source: "Source",
    lease: Lease,
    manifest: RemoteManifest,
    told: "Callable[[dict[str, Any]], Awaitable[None]]",
) -> "tuple[bytes, list[LayerRow]]":
    """The configuration and the layers of a manifest whose blobs somebody has; kept by the lease, and without a name.

    `told` takes the messages of a pull. Raises MoorageError.
    """
    work = _Pull(engine, source, lease, manifest)
    async with contextlib.aclosing(work.told()) as messages:
        async for message in messages:
            await told(message)
    return work.result


class _Pull:
    """The layers of one manifest on their way."""

    result: "tuple[bytes, list[LayerRow]]"  # the configuration, and the layers registered; once all was told

    def __init__(self, engine: "Engine", registry: "Source", lease: Lease, manifest: RemoteManifest) -> None:
        self.engine, self.registry, self.lease, self.manifest = engine, registry, lease, manifest
        self.messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        said = daemon_json.read(engine.settings.daemon_json)
        self.downloads = asyncio.Semaphore(said.downloads or DOWNLOADS)
        self.attempts = said.attempts or ATTEMPTS
        self.unpackings = asyncio.Semaphore(UNPACKING)

    async def told(self) -> "AsyncGenerator[dict[str, Any], None]":
        """Do it, telling Docker's messages. Raises MoorageError. To be closed: that stops what is on its way."""
        task = asyncio.ensure_future(self._to_the_end())
        try:
            while (message := await self.messages.get()) is not None:
                yield message
            self.result = await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _to_the_end(self) -> "tuple[bytes, list[LayerRow]]":
        """The end of `messages` is told whatever happens."""
        try:
            return await self._run()
        finally:
            self.messages.put_nowait(None)

    async def _run(self) -> "tuple[bytes, list[LayerRow]]":
        image_id = self.manifest.config.digest
        here = await self.engine.thread(self._here, image_id)
        if here is not None:
            return here
        config = await self.registry.document(image_id)
        diff_ids = image_config.diff_ids(image_config.parse(config))
        descriptors = self.manifest.layers
        if len(descriptors) != len(diff_ids):
            raise InvalidParameter("layers from manifest don't match image configuration")
        chain_ids = image_config.chain_ids(diff_ids)
        held = [await self.engine.thread(held_layer, self.engine, self.lease, chain_id) for chain_id in chain_ids]
        for descriptor, row in zip(descriptors, held, strict=True):
            state = "Already exists" if row is not None else "Pulling fs layer"
            self.messages.put_nowait(progress.update(_shown(descriptor.digest), state))
        tasks = [
            None if row is not None else asyncio.ensure_future(self._layer(descriptor, diff_id))
            for descriptor, diff_id, row in zip(descriptors, diff_ids, held, strict=True)
        ]
        rows: list[LayerRow] = []
        try:
            for row, task, chain_id, descriptor in zip(held, tasks, chain_ids, descriptors, strict=True):
                if task is None:
                    assert row is not None
                    rows.append(row)
                    continue
                unpacked = await task
                rows.append(await self.engine.thread(register, self.engine, self.lease, unpacked, chain_id, list(rows)))
                self.messages.put_nowait(progress.update(_shown(descriptor.digest), "Pull complete"))
        finally:
            await self._abandon([task for task in tasks[len(rows) :] if task is not None])
        return config, rows

    def _here(self, image_id: str) -> "tuple[bytes, list[LayerRow]] | None":
        """The image itself, when it is here already: then its layers are not spoken of."""
        database = self.engine.store
        with database.write():
            if not store.exists(database, image_id):
                return None
            rows = store.layers_of(database, image_id)
            self.lease.hold(*(row.chain_id for row in rows))
            return store.get(database, image_id).config.encode(), rows

    @staticmethod
    async def _abandon(tasks: "list[asyncio.Task[unpacking.Unpacked]]") -> None:
        """Stop what is still on its way, and remove what came of it."""
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, unpacking.Unpacked):
                done.discard()

    async def _layer(self, descriptor: Descriptor, diff_id: str) -> "unpacking.Unpacked":
        digest, size = descriptor.digest, max(descriptor.size, 0)
        shown = _shown(digest)
        if self.downloads.locked():
            self.messages.put_nowait(progress.update(shown, "Waiting"))
        async with self.downloads:
            await self._download(digest, size)
        self.messages.put_nowait(progress.update(shown, "Download complete"))
        async with self.unpackings:
            unpacked = await self._unpacked(digest, size)
        if unpacked.diff_id != diff_id:
            await self.engine.thread(unpacked.discard)
            raise SystemFailure("failed to register layer: layers from manifest don't match image configuration")
        media_type = descriptor.media_type or tarball.DOCKER_LAYER_GZIP
        await self.engine.thread(self._note, diff_id, digest, media_type, size)
        return unpacked

    async def _unpacked(self, digest: str, size: int) -> "unpacking.Unpacked":
        """Unpack in a thread. A thread cannot be stopped: when we are, what it makes is removed once it is done."""
        inner = asyncio.ensure_future(self.engine.thread(self._unpack, digest, size, asyncio.get_running_loop()))
        try:
            return await asyncio.shield(inner)
        except asyncio.CancelledError:
            inner.add_done_callback(_discard_result)
            raise

    def _note(self, diff_id: str, digest: str, media_type: str, size: int) -> None:
        with self.engine.store.write(durable=False):
            store.add_layer_blob(
                self.engine.store,
                diff_id,
                digest,
                media_type,
                size,
                self.registry.named,
            )

    def _unpack(self, digest: str, size: int, loop: asyncio.AbstractEventLoop) -> "unpacking.Unpacked":
        shown = _shown(digest)
        told = [0.0]
        with open(blobs.path(self.engine.settings, digest), "rb") as file:

            def read(count: int) -> bytes:
                piece = file.read(count)
                now = loop.time()
                if not piece or now - told[0] > _SHOWN_EVERY:
                    told[0] = now
                    loop.call_soon_threadsafe(
                        self.messages.put_nowait, progress.bar(shown, "Extracting", file.tell(), size)
                    )
                return piece

            try:
                return unpacking.unpack(self.engine.settings, unpacking.decompressed(read))
            except SystemFailure as error:
                raise SystemFailure(f"failed to register layer: {error.message}") from error

    async def _download(self, digest: str, size: int) -> None:
        """Have the blob, one download of it at a time in this process. Raises MoorageError after several attempts."""
        engine, shown = self.engine, _shown(digest)
        key = (engine.settings.root, digest)
        lock = _downloading.setdefault(key, asyncio.Lock())
        async with lock:
            await engine.thread(self.lease.hold, digest)
            if blobs.size(engine.settings, digest) >= 0:
                return
            for attempt in range(1, self.attempts + 1):
                try:
                    await self._attempt(digest, size)
                    break
                except Interrupted as error:
                    if attempt == self.attempts:
                        raise SystemFailure(error.message) from error
                    after = max(attempt * RETRY_STEP, math.ceil(error.after))
                await progress.count_down(self.messages.put_nowait, shown, after)
        if not lock.locked():
            _downloading.pop(key, None)

    async def _attempt(self, digest: str, size: int) -> None:
        engine, shown = self.engine, _shown(digest)
        writer = await engine.thread(blobs.Partial, engine.settings, digest)
        loop = asyncio.get_running_loop()
        told = 0.0
        resumed = writer.size > 0
        try:
            async for piece in self.registry.blob(digest, writer.size):
                if not piece:
                    await engine.thread(writer.restart)
                    continue
                await engine.thread(writer.write, piece)
                if size and writer.size > size:
                    await engine.thread(writer.restart)
                    raise SystemFailure(f"the registry sent more than the {size} bytes of {digest}")
                if loop.time() - told > _SHOWN_EVERY:
                    told = loop.time()
                    self.messages.put_nowait(progress.bar(shown, "Downloading", writer.size, size))
            if writer.size < size:
                raise Interrupted("unexpected EOF")
            self.messages.put_nowait(progress.update(shown, "Verifying Checksum"))
            try:
                await engine.thread(writer.commit)
            except SystemFailure as error:
                if resumed:  # what an earlier attempt has left may be at fault: once more from the beginning
                    raise Interrupted(error.message) from error
                raise
        except RegistryError as error:
            if error.status == 416:  # what was kept is longer than the blob: begin again
                await engine.thread(writer.restart)
                raise Interrupted(error.message) from error
            raise
        finally:
            writer.close()


def _discard_result(done: "asyncio.Future[unpacking.Unpacked]") -> None:
    if not done.cancelled() and done.exception() is None:
        done.result().discard()


def _register(
    engine: "Engine",
    reference: Reference,
    digest: str,
    manifest: RemoteManifest,
    config: bytes,
    rows: "list[LayerRow]",
    outcome: "Outcome",
) -> None:
    """The one commit of a pull."""
    blob = blobs.put(engine.settings, manifest.content)
    row = image_row(config, rows, blob)
    with engine.store.write():
        store.insert(engine.store, row, [layer.chain_id for layer in rows])
        _name(engine, reference, digest, row, outcome)
    flushing.soon(engine)
    bell.ring(engine.settings.bell)


def _name(engine: "Engine", reference: Reference, digest: str, row: "ImageRow", outcome: "Outcome") -> None:
    """Let the reference mean the image, in the caller's transaction."""
    before = store.by_reference(engine.store, reference.stored)
    if not reference.digest and before != row.id and not (before and outcome.keeps_names):
        store.tag(engine.store, reference.stored, row.id, timestamps.now_ns())
    store.add_digest(engine.store, f"{reference.repository}@{digest}", row.id)
    image_events.record(engine.store, "pull", row, reference.familiar_repository, actor=reference.familiar)
    outcome.id = row.id
    outcome.fresh |= before != row.id


def _retagged(engine: "Engine", reference: Reference, digest: str, wanted: "Platform", outcome: "Outcome") -> bool:
    """Whether the image that a digest means for a platform is here; then the reference means it from now on."""
    with engine.store.write():
        image_id = store.by_reference(engine.store, f"{reference.repository}@{digest}") if digest else None
        if image_id is None:
            return False
        row = store.get(engine.store, image_id)
        if not platforms.matches(wanted, image_config.parse(row.config.encode())):
            return False
        _name(engine, reference, digest, row, outcome)
    bell.ring(engine.settings.bell)
    return True


def _shown(digest: str) -> str:
    return digest.rpartition(":")[2][:12]

"""The history of builds on the wire: what is kept of a build when it ends, and who is told."""

import asyncio

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from compat_api.buildkit import failure, outputs
from compat_api.buildkit.progress import moment
from compat_api.buildkit.wire import control_pb2 as control
from service.engine import build_history, provenance
from service.engine.build_history import Blob, Record
from service.errors import InvalidParameter, NotFound, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from compat_api.buildkit.builds import Build
    from service.engine.engine import Engine
    from service.engine.solving import Solved

_LOGS, _ERROR = "application/vnd.buildkit.status.v0", "application/vnd.googeapis.google.rpc.status+proto"
_PREDICATE = "application/vnd.in-toto+json"
_IMAGE = "application/vnd.docker.container.image.v1+json"
_BEHIND = 1000  # events that a follower may be behind before it is given up
_CONFIG, _IMAGES = "containerimage.config.digest", ("moby", "image")  # an image is here after these outputs only


class History:
    """The finished builds of the store, those that go on, and who follows them."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self._active: dict[str, Build] = {}
        self._followers: set[asyncio.Queue[control.BuildHistoryEvent | None]] = set()

    # ── builds ───────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, build: "Build") -> None:
        """A build begins."""
        if build.request.Internal:
            return
        self._active[build.ref] = build
        self._tell(_event(control.STARTED, _record(build)))

    async def end(self, build: "Build") -> None:
        """A build has ended; nobody tells of it any more. Raises SystemFailure when it cannot be kept."""
        if self._active.pop(build.ref, None) is None:
            return
        record = _record(build)
        record.completed_ns = build.ended_ns
        record.steps, record.completed_steps, record.cached_steps = build.progress.steps()
        record.warnings = build.progress.warnings
        logs = b"".join(
            len(piece).to_bytes(4, "little") + piece
            for piece in (told.SerializeToString() for told in build.progress.story())
        )
        details = b""
        if build.error is not None:
            code, message = failure.told(build.error)
            record.failure = code.value, message
            details = failure.status(code, message, failure.details(build.error)).SerializeToString()
        await self.engine.thread(self._keep, record, logs, details, build.result)
        self._tell(_event(control.COMPLETE, record))

    def _keep(self, record: Record, logs: bytes, details: bytes, result: "Solved | None") -> None:
        engine = self.engine
        record.logs = build_history.blob(engine, _LOGS, logs)
        if record.failure is not None:
            record.error = build_history.blob(engine, _ERROR, details)
        if result is not None and record.failure is None:
            document = provenance.document(
                result.used,
                result.attributes,
                platform=result.platform,
                id=result.id,
                started_ns=record.created_ns,
                ended_ns=record.completed_ns,
            )
            about = {"in-toto.io/predicate-type": provenance.TYPE}
            record.attestations = [build_history.blob(engine, _PREDICATE, document, about)]
        for number, blob in list(record.results.items()):
            try:
                size = len(build_history.content(engine, blob.digest))
            except NotFound:  # somebody has removed the image already
                del record.results[number]
            else:
                record.results[number] = Blob(blob.media_type, blob.digest, size)
        build_history.keep(engine, record)

    # ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def listen(self, request: control.BuildHistoryRequest) -> "AsyncGenerator[control.BuildHistoryEvent, None]":
        """What there is, then what happens. Raises InvalidParameter, and Unavailable when the client is too slow."""
        if request.Limit < 0:
            raise InvalidParameter(f"invalid limit {request.Limit}")
        queue: asyncio.Queue[control.BuildHistoryEvent | None] = asyncio.Queue(_BEHIND)
        self._followers.add(queue)
        try:
            for build in list(self._active.values()):
                if request.Ref in ("", build.ref):
                    yield _event(control.STARTED, _record(build))
            if not request.ActiveOnly:
                for record in await self.engine.thread(self._kept, request):
                    yield _event(control.COMPLETE, record)
            if request.EarlyExit:
                return
            while (event := await queue.get()) is not None:
                if request.Ref in ("", event.record.Ref):
                    yield event
            raise Unavailable("the client is too far behind with the history of builds")
        finally:
            self._followers.discard(queue)

    async def update(self, request: control.UpdateBuildHistoryRequest) -> None:
        """Remove a record, or have it stay. `Finalize` waits for traces, of which there are none. Raises NotFound."""
        if request.Delete:
            try:
                await self.engine.thread(build_history.remove, self.engine, request.Ref)
            except NotFound as error:  # clients show the status; BuildKit's says nothing here
                raise GRPCError(Status.UNKNOWN, error.message) from None
            self._tell(_event(control.DELETED, Record(request.Ref, 0)))
        elif not request.Finalize:
            await self.engine.thread(lambda: build_history.pin(self.engine, request.Ref, pinned=request.Pinned))
            record = await self.engine.thread(build_history.find, self.engine, request.Ref)
            if record is not None:
                self._tell(_event(control.COMPLETE, record))

    def _kept(self, request: control.BuildHistoryRequest) -> list[Record]:
        wanted = build_history.matching(request.Filter)
        if request.Ref:
            one = build_history.find(self.engine, request.Ref)
            found = [one] if one is not None else []
        else:
            found = build_history.records(self.engine)
        found = sorted(filter(wanted, found), key=lambda record: record.created_ns, reverse=True)
        return found[: request.Limit or None]

    async def story(self, ref: str) -> "list[control.StatusResponse] | None":
        """What a finished build has told; None when there is no such build. Raises NotFound when it is lost."""
        record = await self.engine.thread(build_history.find, self.engine, ref)
        if record is None:
            return None
        told: list[control.StatusResponse] = []
        data = (
            b""
            if record.logs is None
            else await self.engine.thread(build_history.content, self.engine, record.logs.digest)
        )
        while data:
            size = int.from_bytes(data[:4], "little")
            told.append(control.StatusResponse.FromString(data[4 : 4 + size]))
            data = data[4 + size :]
        return told

    def _tell(self, event: control.BuildHistoryEvent) -> None:
        for queue in list(self._followers):
            if queue.full():
                self._followers.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)


def _record(build: "Build") -> Record:
    """What is known of a build while it goes on."""
    request = build.request
    digest = build.answer.get(_CONFIG, "")
    made = [str(number) for number, output in enumerate(outputs.wanted(request)) if output.Type in _IMAGES]
    return Record(
        build.ref,
        build.started_ns,
        frontend=request.Frontend,
        attributes=dict(request.FrontendAttrs),
        outputs=[(output.Type, dict(output.Attrs)) for output in outputs.wanted(request)],
        response=dict(build.answer),
        results={number: Blob(_IMAGE, digest, 0) for number in made if digest},
    )


def _event(kind: "control.BuildHistoryEventType", record: Record) -> control.BuildHistoryEvent:
    told = control.BuildHistoryRecord(
        Ref=record.ref,
        Frontend=record.frontend,
        FrontendAttrs=record.attributes,
        Exporters=[control.Exporter(Type=type, Attrs=attributes) for type, attributes in record.outputs],
        ExporterResponse=record.response,
        pinned=record.pinned,
        numTotalSteps=record.steps,
        numCompletedSteps=record.completed_steps,
        numCachedSteps=record.cached_steps,
        numWarnings=record.warnings,
    )
    if record.failure is not None:
        told.error.code, told.error.message = record.failure
    moment(record.created_ns, told.CreatedAt)
    moment(record.completed_ns, told.CompletedAt)
    for blob, to in ((record.logs, told.logs), (record.error, told.externalError)):
        if blob is not None:
            to.CopyFrom(_descriptor(blob))
    told.Result.Attestations.extend(_descriptor(blob) for blob in record.attestations)
    for number, blob in record.results.items():
        told.Result.Results[int(number)].CopyFrom(_descriptor(blob))
    first = next(iter(record.results.values()), None)
    if first is not None:
        told.Result.ResultDeprecated.CopyFrom(_descriptor(first))
    return control.BuildHistoryEvent(type=kind, record=told)


def _descriptor(blob: Blob) -> control.Descriptor:
    return control.Descriptor(
        media_type=blob.media_type, digest=blob.digest, size=blob.size, annotations=blob.annotations
    )

"""`moby.buildkit.v1.Control`: workers, builds, their progress, the cache."""

import contextlib

from compat_api.buildkit import frontend, outputs, tunnel, worker
from compat_api.buildkit.builds import Refused
from compat_api.buildkit.progress import moment
from compat_api.buildkit.session import Session
from compat_api.buildkit.wire import control_pb2 as control
from service import timestamps
from service.engine import build_cache, entitlements
from service.engine.solving import CacheOption
from service.errors import InvalidParameter, MoorageError, NotImplemented_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from compat_api.buildkit.builds import Build, Builds
    from service.engine.solving import Solved


class Control:
    """The service; its methods are called with grpclib's streams."""

    def __init__(self, builds: "Builds") -> None:
        self.builds = builds

    def methods(self) -> "dict[str, tuple[Callable[[Any], Any], type, type]]":
        """By name: what serves it, its request and its answer."""
        return {
            "ListWorkers": (self.list_workers, control.ListWorkersRequest, control.ListWorkersResponse),
            "Info": (self.info, control.InfoRequest, control.InfoResponse),
            "Solve": (self.solve, control.SolveRequest, control.SolveResponse),
            "Status": (self.status, control.StatusRequest, control.StatusResponse),
            "Session": (self.session, control.BytesMessage, control.BytesMessage),
            "DiskUsage": (self.disk_usage, control.DiskUsageRequest, control.DiskUsageResponse),
            "Prune": (self.prune, control.PruneRequest, control.UsageRecord),
            "ListenBuildHistory": (
                self.listen_build_history,
                control.BuildHistoryRequest,
                control.BuildHistoryEvent,
            ),
            "UpdateBuildHistory": (
                self.update_build_history,
                control.UpdateBuildHistoryRequest,
                control.UpdateBuildHistoryResponse,
            ),
        }

    async def list_workers(self, stream: "Any") -> None:
        """The one worker. Without the label of a snapshotter clients take us for what we are: images only."""
        await stream.recv_message()
        await stream.send_message(control.ListWorkersResponse(record=[worker.record()]))

    async def info(self, stream: "Any") -> None:
        """The version."""
        await stream.recv_message()
        await stream.send_message(control.InfoResponse(buildkitVersion=worker.version()))

    async def session(self, stream: "Any") -> None:
        """A session inside this stream, instead of a connection of its own."""
        opened = Session.read(self.builds.engine, lambda name: stream.metadata.getall(name, []))
        await tunnel.serve(self.builds, opened, stream)

    async def status(self, stream: "Any") -> None:
        """The progress of a build, until it ends; of one that has ended, the whole."""
        request = await stream.recv_message()
        if not self.builds.has(request.Ref):
            story = await self.builds.history.story(request.Ref)
            for told in story or ():
                await stream.send_message(told)
            if story is not None:
                return
        try:
            build = await self.builds.get(request.Ref)
        except Refused:
            return  # an error here might be shown instead of the one that says why
        if build.progress.ended:
            for told in build.progress.story():
                await stream.send_message(told)
            return
        async for told in build.progress.follow():
            await stream.send_message(told)

    async def solve(self, stream: "Any") -> None:
        """A build: by a frontend that is named here, or by what the client does through `LLBBridge` meanwhile."""
        request: control.SolveRequest = await stream.recv_message()
        if not request.Ref:
            raise InvalidParameter("a build needs a ref")
        self.builds.expect(request.Ref)
        try:
            await self._check(request)
        except MoorageError:
            self.builds.refuse(request.Ref)
            raise
        async with self.builds.run(request) as build:
            if request.Frontend:
                wanted = frontend.Wanted(
                    request.Frontend,
                    dict(request.FrontendAttrs),
                    dict(request.FrontendInputs),
                    [CacheOption(found.Type, dict(found.Attrs)) for found in request.Cache.Imports],
                )
                solved: Solved | None = await frontend.make(self.builds, build, wanted)
                metadata: dict[str, bytes] = {}
            elif request.Definition:
                raise NotImplemented_("LLB definitions are not supported: only the frontend dockerfile.v0 is")
            else:
                solved, metadata = self._returned(build, await build.returned)
            if solved is not None:
                await outputs.export(self.builds, build, solved, metadata)
        await stream.send_message(control.SolveResponse(ExporterResponse=build.answer))

    async def _check(self, request: control.SolveRequest) -> None:
        """Raises what is wrong with a request, before anything is built."""
        # Clients name a SourcePolicySession for some contexts even where their user has no policy; BuildKit before 0.27
        # does not know it either.
        if request.SourcePolicy:
            raise NotImplemented_("source policies are not supported")
        if request.ProxyNetwork:
            raise NotImplemented_("source policies that want a proxy are not supported")
        engine = self.builds.engine
        await engine.thread(entitlements.check, engine.settings, list(request.Entitlements))
        outputs.check(request)

    def _returned(self, build: "Build", result: "Any") -> "tuple[Solved | None, dict[str, bytes]]":
        """What the client says is the result. None when it has none, as when it only wanted to know what we can."""
        if result.WhichOneof("result") == "refs":
            refs = list(result.refs.refs.values())
            if len(refs) != 1:
                raise NotImplemented_("images for several platforms at once are not supported")
            id = refs[0].id
        else:
            id = result.ref.id
        if not id:
            return None, {}
        return frontend.result_of(build, id), dict(result.metadata)

    # the history

    async def listen_build_history(self, stream: "Any") -> None:
        """Builds that go on, then those that have ended, then what happens to them."""
        request = await stream.recv_message()
        now = timestamps.rfc3339(timestamps.now_ns())
        await stream.send_initial_metadata(metadata={"buildkit-current-timestamp": now})
        async with contextlib.aclosing(self.builds.history.listen(request)) as events:
            async for event in events:
                await stream.send_message(event)

    async def update_build_history(self, stream: "Any") -> None:
        """Remove a record, or have it stay."""
        await self.builds.history.update(await stream.recv_message())
        await stream.send_message(control.UpdateBuildHistoryResponse())

    # the cache

    async def disk_usage(self, stream: "Any") -> None:
        """What builds keep."""
        request = await stream.recv_message()
        wanted = build_cache.matching(request.filter)
        found = await self.builds.engine.thread(build_cache.records, self.builds.engine)
        kept = [_usage(record) for record in found if wanted(record)]
        await stream.send_message(control.DiskUsageResponse(record=kept))

    async def prune(self, stream: "Any") -> None:
        """Remove what builds keep, except what is younger, or within what is to be left."""
        request = await stream.recv_message()
        wanted = build_cache.matching(request.filter)
        gone = await self.builds.engine.thread(
            lambda: build_cache.remove(
                self.builds.engine,
                wanted,
                shared=request.all,
                keep_bytes=request.reservedSpace or request.maxUsedSpace,
                keep_ns=request.keepDuration,
            )
        )
        for record in gone:
            await stream.send_message(_usage(record))


def _usage(found: build_cache.Record) -> control.UsageRecord:
    record = control.UsageRecord(
        ID=found.id,
        Mutable=found.mutable,
        InUse=found.in_use,
        Size=found.size,
        UsageCount=found.uses,
        Description=found.description,
        RecordType=found.type,
        Shared=found.shared,
        Parents=found.parents,
    )
    moment(found.created_ns, record.CreatedAt)
    moment(found.used_ns, record.LastUsedAt)
    return record

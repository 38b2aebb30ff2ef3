"""`moby.buildkit.v1.Control`: workers, builds, their progress, the cache."""

import re
import time

from compat_api.buildkit import frontend, outputs, tunnel, worker
from compat_api.buildkit.progress import moment
from compat_api.buildkit.session import Session
from compat_api.buildkit.wire import control_pb2 as control
from service.content import mirror
from service.engine.solving import CacheOption
from service.errors import InvalidParameter, NotImplemented_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
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
        """The progress of a build, until it ends."""
        request = await stream.recv_message()
        build = await self.builds.get(request.Ref)
        async for told in build.progress.follow():
            await stream.send_message(told)

    async def solve(self, stream: "Any") -> None:
        """A build: by a frontend that is named here, or by what the client does through `LLBBridge` meanwhile."""
        request: control.SolveRequest = await stream.recv_message()
        if not request.Ref:
            raise InvalidParameter("a build needs a ref")
        if request.SourcePolicy:
            raise NotImplemented_("source policies are not supported")
        check_entitlements(request.Entitlements)
        outputs.check(request)
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
            answer = await outputs.export(self.builds, build, solved, metadata) if solved is not None else {}
        await stream.send_message(control.SolveResponse(ExporterResponse=answer))

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

    # the cache

    async def disk_usage(self, stream: "Any") -> None:
        """What builds keep."""
        request = await stream.recv_message()
        found = await self.builds.engine.thread(self._records)
        kept = [record for record in found if _matches(record, request.filter)]
        await stream.send_message(control.DiskUsageResponse(record=kept))

    async def prune(self, stream: "Any") -> None:
        """Remove what builds keep, except what is younger, or within what is to be left."""
        request = await stream.recv_message()
        engine = self.builds.engine
        found = [record for record in await engine.thread(self._records) if _matches(record, request.filter)]
        found.sort(key=lambda record: record.LastUsedAt.ToNanoseconds(), reverse=True)
        left = request.reservedSpace or request.maxUsedSpace
        for record in found:
            left -= record.Size
            young = time.time_ns() - record.LastUsedAt.ToNanoseconds() < request.keepDuration
            if record.InUse or young or (left >= 0 and (request.reservedSpace or request.maxUsedSpace)):
                continue
            if await engine.thread(self._remove, record):
                await stream.send_message(record)

    def _records(self) -> list[control.UsageRecord]:
        engine = self.builds.engine
        found = []
        for copy in mirror.usage(engine.settings.mirrors):
            record = control.UsageRecord(
                ID=copy.id,
                Mutable=True,
                InUse=copy.in_use,
                Size=copy.size,
                UsageCount=copy.uses,
                Description=f"local source for {copy.name}",
                RecordType="source.local",
            )
            moment(int(copy.created * 1e9), record.CreatedAt)
            moment(int(copy.used * 1e9), record.LastUsedAt)
            found.append(record)
        return found

    def _remove(self, record: control.UsageRecord) -> bool:
        return mirror.remove(self.builds.engine.settings.mirrors, record.ID)


def check_entitlements(asked: "Iterable[str]") -> None:
    """Raises InvalidParameter for one that nobody knows."""
    for name in asked:
        if name not in ("network.host", "security.insecure", "device") and not name.startswith("device="):
            raise InvalidParameter(f"unknown entitlement {name}")


def _matches(record: control.UsageRecord, filters: "Iterable[str]") -> bool:
    """Whether any of containerd's filters fits; without one, everything does."""
    given = [text for text in filters if text]
    return not given or any(all(_fits(record, part) for part in text.split(",")) for text in given)


def _fits(record: control.UsageRecord, condition: str) -> bool:
    parts = re.fullmatch(r"([a-z]+)(?:(==|!=|~=)(.*))?", condition.strip())
    if parts is None:
        raise InvalidParameter(f"parse error: filter {condition!r}")
    values: dict[str, str | bool] = {
        "id": record.ID,
        "type": record.RecordType,
        "description": record.Description,
        "inuse": record.InUse,
        "mutable": record.Mutable,
        "immutable": not record.Mutable,
        "shared": record.Shared,
        "private": not record.Shared,
        "parents": ";".join(record.Parents),
    }
    if parts[1] not in values:
        return False
    value = values[parts[1]]
    if parts[2] is None:
        return bool(value)
    text = str(value).lower() if isinstance(value, bool) else value
    wanted = parts[3].strip("\"'")
    if parts[2] == "~=":
        return wanted in text
    return (text == wanted) is (parts[2] == "==")

"""The services of BuildKit's protocol over a connection, with a builder that does as it is told."""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from compat_api.buildkit.builds import Solver
from compat_api.buildkit.progress import Progress
from compat_api.buildkit.server import Services
from compat_api.buildkit.session import Session
from compat_api.buildkit.wire import content_pb2 as content
from compat_api.buildkit.wire import control_pb2 as control
from compat_api.buildkit.wire import gateway_pb2 as gateway
from compat_api.streams.hijack import HijackedConnection
from service.engine import provenance, solving
from service.engine.engine import Engine
from service.settings import Settings

SECONDS = 60
CONTENT = "/containerd.services.content.v1.Content/"
CONTROL, BRIDGE = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"


class Solved:
    """An image that only has an id."""

    is_answer, platform, config = False, "linux/amd64", b"{}"

    def __init__(self, id: str, attributes: "Mapping[str, str]") -> None:
        self.id, self.attributes, self.used = id, attributes, provenance.Used()
        self.used.locals.add("context")
        self.metadata = {"containerimage.config": self.config}


class Builder:
    """Makes what its `target` says; `alive` are the images that have not been let go."""

    def __init__(self) -> None:
        self.alive: set[str] = set()
        self.begun, self.cancelled, self.changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.killed = asyncio.Event()
        self.exported: list[solving.Exporter] = []
        self.requests: list[solving.SolveRequest] = []

    @asynccontextmanager
    async def solve(
        self, _engine: Any, request: solving.SolveRequest, _session: Any, progress: Any
    ) -> AsyncIterator[Any]:
        """An image."""
        self.requests.append(request)
        target = request.attributes.get("target", "")
        digest = "sha256:" + hashlib.sha256(target.encode()).hexdigest()
        await progress.tell(solving.Vertex(digest, target, started_ns=1))
        if target == "fails":
            text = b"FROM scratch\nRUN x\n"
            lines = [solving.SourceRange(2, 2)]
            raise solving.SolveFailed("it failed", filename="D", text=text, ranges=lines, vertex=digest, code=5)
        if target == "talks":
            await progress.tell(solving.Log(digest, 1, b"second\n", time_ns=3))
            await progress.tell(solving.Log(digest, 1, b"first\n", time_ns=2))
        if target == "breaks":
            raise ValueError("/secret/path")
        self.alive.add(target)
        try:
            if target in ("waits", "dies slowly"):
                self.begun.set()
                await asyncio.Event().wait()
            await progress.tell(solving.Vertex(digest, target, started_ns=1, completed_ns=4))
            yield Solved(target, request.attributes)
        except asyncio.CancelledError:
            self.cancelled.set()
            if target == "dies slowly":
                await self.killed.wait()
            raise
        finally:
            self.alive.discard(target)
            self.changed.set()

    async def export(
        self, _engine: Any, solved: Any, exporter: solving.Exporter, _session: Any, _progress: Any
    ) -> dict[str, str]:
        """Note it."""
        assert solved.id in self.alive
        self.exported.append(exporter)
        return {"containerimage.digest": solved.id}

    async def only(self, *targets: str) -> None:
        """Returns when these images are alive, and no other."""
        while self.alive != set(targets):
            self.changed.clear()
            await self.changed.wait()


class Client:
    """A gRPC client of the services."""

    async def history(self, **more: Any) -> "list[control.BuildHistoryEvent]":
        """What there is."""
        request = control.BuildHistoryRequest(EarlyExit=True, **more)
        method = UnaryStreamMethod(
            self.channel, CONTROL + "ListenBuildHistory", type(request), control.BuildHistoryEvent
        )
        return list(await method(request))

    async def update(self, ref: str, **more: Any) -> None:
        """Change what there is."""
        request = control.UpdateBuildHistoryRequest(Ref=ref, **more)
        await self.ask(CONTROL + "UpdateBuildHistory", request, control.UpdateBuildHistoryResponse)

    async def blob(self, descriptor: control.Descriptor, offset: int = 0, size: int = 0) -> bytes:
        """What a record refers to."""
        about = await self.ask(CONTENT + "Info", content.InfoRequest(digest=descriptor.digest), content.InfoResponse)
        assert (about.info.digest, about.info.size) == (descriptor.digest, descriptor.size)
        request = content.ReadContentRequest(digest=descriptor.digest, offset=offset, size=size)
        method = UnaryStreamMethod(self.channel, CONTENT + "Read", type(request), content.ReadContentResponse)
        return b"".join(piece.data for piece in await method(request))

    async def story(self, ref: str) -> "list[control.StatusResponse]":
        """The progress of a build."""
        method = UnaryStreamMethod(self.channel, CONTROL + "Status", control.StatusRequest, control.StatusResponse)
        return list(await method(control.StatusRequest(Ref=ref)))

    def __init__(self, services: Services, builder: Builder, channel: Channel) -> None:
        self.services, self.builder, self.channel = services, builder, channel

    async def ask(self, path: str, request: Any, answer: Any, ref: str = "") -> Any:
        """One request, one answer; `ref`: within that build."""
        metadata = {"buildkit-controlapi-buildid": ref} if ref else None
        return await UnaryUnaryMethod(self.channel, path, type(request), answer)(request, metadata=metadata)

    def solve(self, ref: str, **more: Any) -> "asyncio.Task[Any]":
        """A build, as it goes on."""
        request = control.SolveRequest(Ref=ref, Session="session", **more)
        return asyncio.create_task(self.ask(CONTROL + "Solve", request, control.SolveResponse))

    async def image(self, ref: str, target: str, **more: Any) -> Any:
        """An image within a build."""
        request = gateway.SolveRequest(Frontend="dockerfile.v0", FrontendOpt={"target": target}, **more)
        return (await self.ask(BRIDGE + "Solve", request, gateway.SolveResponse, ref)).result

    async def give_back(self, ref: str, **more: Any) -> None:
        """Say what the result of a build is."""
        await self.ask(BRIDGE + "Return", gateway.ReturnRequest(**more), gateway.ReturnResponse, ref)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client on a connection of its own."""
    engine = Engine(Settings({"MOORAGE_ROOT": str(tmp_path / "lib"), "MOORAGE_RUN": str(tmp_path / "run")}))
    engine.open()
    builder = Builder()
    services = Services(engine, Solver(builder.solve, builder.export))
    services.builds.sessions.add(Session(engine, "session", "", "", ()))
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    holder: list[HijackedConnection] = []

    class Front(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            taken = HijackedConnection(transport, b"", False, lambda: None)
            transport.set_protocol(taken)
            holder.append(taken)

    await loop.connect_accepted_socket(Front, ours)
    serving = asyncio.create_task(services.serve(holder[0]))

    class Bound(Channel):
        async def _create_connection(self) -> Any:
            return (await loop.connect_accepted_socket(self._protocol_factory, theirs))[1]

    made = Bound()
    async with asyncio.timeout(SECONDS):
        yield Client(services, builder, made)
        made.close()
        await serving


async def test_a_build_through_the_clients_own_function(client: Client) -> None:
    building = client.solve("r", Exporters=[control.Exporter(Type="moby", Attrs={"name": "x"})])
    result = await client.image("r", "one")
    assert result.metadata["containerimage.config"] == b"{}"
    await client.image("r", "other")
    await client.give_back("r", result=gateway.Result(ref=result.ref, metadata={"containerimage.config": b"{1}"}))
    assert dict((await building).ExporterResponse) == {"containerimage.digest": "one"}
    (exporter,) = client.builder.exported
    assert (exporter.type, exporter.attributes, exporter.metadata) == (
        "moby",
        {"name": "x"},
        {"containerimage.config": b"{1}"},
    )
    await client.builder.only()  # nothing of it is kept


async def test_what_the_capabilities_are_asked_with_makes_nothing(client: Client) -> None:
    building = client.solve("caps", Internal=True)
    answer = await client.ask(BRIDGE + "Ping", gateway.PingRequest(), gateway.PongResponse, "caps")
    assert {"solve.base", "readfile"} <= {cap.ID for cap in answer.FrontendAPICaps if cap.Enabled}
    await client.give_back("caps", result=gateway.Result(ref=gateway.Ref()))
    assert not (await building).ExporterResponse
    assert not client.builder.exported
    assert not client.builder.requests


async def test_a_result_can_be_the_input_of_another_build_which_keeps_it(client: Client) -> None:
    first, second = client.solve("a"), client.solve("b")
    base = await client.image("a", "base")
    result = await client.image("b", "waits-not", FrontendInputs={"k": getattr(base.ref, "def")})
    assert client.builder.requests[-1].inputs["k"].id == "base"
    await client.give_back("a", result=base)
    await first
    await client.builder.only("base", "waits-not")  # the other build still stands on it
    await client.give_back("b", result=result)
    await second
    await client.builder.only()


async def test_errors_have_their_words_their_status_and_their_place(client: Client) -> None:
    building = client.solve("r")
    with pytest.raises(GRPCError) as failed:
        await client.image("r", "fails")
    assert (failed.value.status, failed.value.message) == (Status.NOT_FOUND, "it failed")
    await client.give_back("r", error=gateway.RpcStatus(code=2, message="it failed"))
    with pytest.raises(GRPCError) as failed:
        await building
    assert (failed.value.status, failed.value.message) == (Status.NOT_FOUND, "it failed")

    building = client.solve("s")
    with pytest.raises(GRPCError, match="ValueError") as failed:
        await client.image("s", "breaks")
    assert "/secret/path" not in str(failed.value.message)
    await client.give_back("s", error=gateway.RpcStatus(code=1, message="enough"))
    with pytest.raises(GRPCError) as failed:
        await building
    assert (failed.value.status, failed.value.message) == (Status.CANCELLED, "enough")


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (gateway.SolveRequest(Definition=b"\x0a\x02\x12\x00"), "LLB definitions"),
        (gateway.SolveRequest(Frontend="gateway.v0", FrontendOpt={"source": "example/frontend"}), "example/frontend"),
        (gateway.SolveRequest(Frontend="other.v1"), "other.v1"),
        (gateway.SolveRequest(Frontend="dockerfile.v0", FrontendInputs={"k": b""}), "input k"),
    ],
)
async def test_what_is_not_served_is_named(client: Client, request_: Any, named: str) -> None:
    building = client.solve("r")
    with pytest.raises(GRPCError, match=named) as refused:
        await client.ask(BRIDGE + "Solve", request_, gateway.SolveResponse, "r")
    assert refused.value.status is Status.UNIMPLEMENTED
    await client.give_back("r", result=gateway.Result(ref=gateway.Ref()))
    await building


async def test_an_unknown_method_is_unimplemented(client: Client) -> None:
    with pytest.raises(GRPCError) as refused:
        await client.ask(CONTROL + "Nothing", control.InfoRequest(), control.InfoResponse)
    assert refused.value.status is Status.UNIMPLEMENTED
    assert "Nothing" in str(refused.value.message)


async def test_a_message_has_a_largest_size(client: Client) -> None:
    request = control.StatusRequest(Ref="x" * ((16 << 20) + 1))
    with pytest.raises(GRPCError, match="larger than max") as refused:
        await client.ask(CONTROL + "Status", request, control.StatusResponse)
    assert refused.value.status is Status.RESOURCE_EXHAUSTED
    await client.ask(CONTROL + "ListWorkers", control.ListWorkersRequest(), control.ListWorkersResponse)


async def test_two_builds_of_one_name_are_refused(client: Client) -> None:
    first = client.solve("r")
    await client.ask(BRIDGE + "Ping", gateway.PingRequest(), gateway.PongResponse, "r")
    with pytest.raises(GRPCError, match="job r already exists"):
        await client.solve("r")
    await client.give_back("r", result=gateway.Result(ref=gateway.Ref()))
    await first


async def test_a_client_that_gives_up_ends_the_work(client: Client) -> None:
    building = client.solve("r")
    making = asyncio.create_task(client.image("r", "waits"))
    await client.builder.begun.wait()
    making.cancel()
    await client.builder.cancelled.wait()
    building.cancel()
    await asyncio.wait((making, building))
    await client.builder.only()
    while client.services.builds.engine.held:  # noqa: ASYNC110 - a number; the fixture's timeout ends it
        await asyncio.sleep(0.01)


async def test_a_connection_that_breaks_ends_the_work(client: Client) -> None:
    building = client.solve("r")
    making = asyncio.create_task(client.image("r", "waits"))
    await client.builder.begun.wait()
    client.channel.close()
    await client.builder.cancelled.wait()
    for task in (making, building):
        with pytest.raises((StreamTerminatedError, ConnectionError, asyncio.CancelledError)):
            await task
    await client.builder.only()


async def test_progress_is_told_until_the_end(client: Client) -> None:
    async def follow() -> list[str]:
        method = UnaryStreamMethod(client.channel, CONTROL + "Status", control.StatusRequest, control.StatusResponse)
        told = await method(control.StatusRequest(Ref="r"))
        return [vertex.name for each in told for vertex in each.vertexes if vertex.HasField("completed")]

    following = asyncio.create_task(follow())  # before the build is there
    building = client.solve("r")
    result = await client.image("r", "one")
    await client.give_back("r", result=result)
    await building
    assert await following == ["one"]
    assert await follow() == ["one"]  # and for a moment after it


async def test_who_gives_up_is_told_what_was_given_up_before_that_has_ended(client: Client) -> None:
    """BuildKit's client reads the progress for three more seconds; a process may take longer to end."""
    method = UnaryStreamMethod(client.channel, CONTROL + "Status", control.StatusRequest, control.StatusResponse)
    following = asyncio.create_task(method(control.StatusRequest(Ref="r")))
    building = client.solve("r")
    making = asyncio.create_task(client.image("r", "dies slowly"))
    await client.builder.begun.wait()
    making.cancel()
    building.cancel()
    told = [vertex for each in await following for vertex in each.vertexes]
    await client.builder.cancelled.wait()
    assert client.builder.alive == {"dies slowly"}
    assert (told[-1].name, told[-1].error) == ("dies slowly", "context canceled")
    assert told[-1].HasField("completed")
    client.builder.killed.set()
    await asyncio.wait((making, building))
    await client.builder.only()


async def test_output_waits_for_a_follower_that_does_not_read() -> None:
    progress = Progress()
    follower = progress.follow()
    await progress.tell(solving.Vertex("v", "step", started_ns=1))
    first = await anext(follower)
    assert [vertex.name for vertex in first.vertexes] == ["step"]
    piece = bytes(1 << 19)
    await progress.tell(solving.Log("v", 1, piece))
    telling = asyncio.create_task(progress.tell(solving.Log("v", 1, piece + piece)))
    done, _ = await asyncio.wait((telling,), timeout=0.2)
    assert not done
    assert len((await anext(follower)).logs) >= 1
    async with asyncio.timeout(SECONDS):
        await telling
    await follower.aclose()  # who leaves holds nobody up
    async with asyncio.timeout(SECONDS):
        for _ in range(10):
            await progress.tell(solving.Log("v", 1, piece))
    await progress.tell(solving.Vertex("v", "step", started_ns=1, completed_ns=2))
    late = progress.follow()
    told = [await anext(late)]
    progress.end()
    told += [more async for more in late]
    assert [vertex.name for one in told for vertex in one.vertexes] == ["step"]
    assert sum(len(log.msg) for one in told for log in one.logs) <= 2 << 20  # what came last


async def built(client: Client, ref: str, target: str, **more: Any) -> None:
    """A build from its beginning to its end."""
    building = client.solve(ref, **more)
    await client.give_back(ref, result=await client.image(ref, target))
    await building


async def failed(client: Client, ref: str) -> None:
    """A build that fails."""
    building = client.solve(ref)
    with pytest.raises(GRPCError):
        await client.image(ref, "fails")
    await client.give_back(ref, error=gateway.RpcStatus(code=2, message="it failed"))
    with pytest.raises(GRPCError):
        await building


async def test_the_history_tells_what_was_asked_and_what_came_of_it(client: Client) -> None:
    await built(client, "r", "talks", FrontendAttrs={"target": "talks"}, Exporters=[control.Exporter(Type="local")])
    await built(client, "caps", "one", Internal=True)
    (event,) = await client.history()
    record = event.record
    assert (event.type, record.Ref, dict(record.FrontendAttrs)) == (control.COMPLETE, "r", {"target": "talks"})
    assert [output.Type for output in record.Exporters] == ["local"]
    assert dict(record.ExporterResponse) == {"containerimage.digest": "talks"}
    assert record.CreatedAt.ToNanoseconds() < record.CompletedAt.ToNanoseconds()
    assert (record.numTotalSteps, record.numCompletedSteps, record.numCachedSteps) == (1, 1, 0)
    assert not record.HasField("error")
    (made_of,) = record.Result.Attestations
    assert made_of.annotations["in-toto.io/predicate-type"] == "https://slsa.dev/provenance/v0.2"
    document = json.loads(await client.blob(made_of))
    assert document["invocation"]["parameters"] == {
        "frontend": "dockerfile.v0",
        "args": {"target": "talks"},
        "locals": [{"name": "context"}],
    }
    assert document["metadata"]["buildStartedOn"] < document["metadata"]["buildFinishedOn"]
    logs = await client.blob(record.logs)
    told = []
    while logs:
        size = int.from_bytes(logs[:4], "little")
        told.append(control.StatusResponse.FromString(logs[4 : 4 + size]))
        logs = logs[4 + size :]
    assert told == await client.story("r")
    assert [bool(vertex.completed.seconds or vertex.completed.nanos) for one in told for vertex in one.vertexes] == [
        False,
        True,
    ]
    assert [log.msg for one in told for log in one.logs] == [b"first\n", b"second\n"]
    assert told[-1].vertexes  # the end of a step comes after what it has written
    assert await client.blob(record.logs, 1, 3) == (await client.blob(record.logs))[1:4]


async def test_the_history_outlives_the_process(client: Client) -> None:
    await built(client, "r", "talks")
    before = await client.story("r")
    client.services.builds._running.clear()  # as in a process that has not seen the build
    assert await client.story("r") == before


async def test_a_failure_is_kept_with_its_details(client: Client) -> None:
    await failed(client, "r")
    (event,) = await client.history()
    assert (event.record.error.code, event.record.error.message) == (Status.NOT_FOUND.value, "it failed")
    error = control.RpcStatus.FromString(await client.blob(event.record.externalError))
    assert error.message == "it failed"
    kinds = {each.type_url.rpartition(".")[2]: json.loads(each.value) for each in error.details}
    assert kinds["Source+json"]["ranges"] == [{"start": {"line": 2}, "end": {"line": 2}}]
    told = await client.story("r")
    assert kinds["Vertex+json"]["digest"] == told[0].vertexes[0].digest
    await client.update("r", Delete=True)
    with pytest.raises(GRPCError) as gone:
        await client.blob(event.record.externalError)
    assert gone.value.status is Status.NOT_FOUND


async def test_who_follows_the_history_hears_of_each_build(client: Client) -> None:
    method = UnaryStreamMethod(
        client.channel, CONTROL + "ListenBuildHistory", control.BuildHistoryRequest, control.BuildHistoryEvent
    )
    async with method.open() as stream:
        await stream.send_message(control.BuildHistoryRequest(ActiveOnly=True), end=True)
        await stream.recv_initial_metadata()
        assert "buildkit-current-timestamp" in dict(stream.initial_metadata or {})

        async def told() -> Any:
            return await stream.recv_message()

        building = client.solve("r")
        result = await client.image("r", "one")
        begun = await told()
        assert (begun.type, begun.record.Ref) == (control.STARTED, "r")
        assert not begun.record.HasField("CompletedAt")
        (active,) = await client.history(ActiveOnly=True)
        assert (active.type, active.record) == (control.STARTED, begun.record)
        await client.give_back("r", result=result)
        await building
        ended = await told()
        assert (ended.type, ended.record.Ref) == (control.COMPLETE, "r")
        assert not await client.history(ActiveOnly=True)
        await client.update("r", Pinned=True)
        assert (await told()).record.pinned
        await client.update("r", Delete=True)
        gone = await told()
        assert (gone.type, gone.record.Ref) == (control.DELETED, "r")
        await stream.cancel()
    assert not await client.history()


async def test_a_static_policy_is_refused_and_a_session_for_one_is_not(client: Client) -> None:
    with pytest.raises(GRPCError, match="source policies are not supported"):
        await client.solve("static", SourcePolicy=b"\x08\x01")
    with pytest.raises(GRPCError, match="want a proxy"):
        await client.solve("proxied", ProxyNetwork=True)
    await built(client, "asked", "one", SourcePolicySession="session")  # sent for uploaded contexts, policy or not


async def test_who_asks_about_a_build_that_was_refused_does_not_wait_for_it(client: Client) -> None:
    method = UnaryStreamMethod(client.channel, CONTROL + "Status", control.StatusRequest, control.StatusResponse)
    following = asyncio.create_task(method(control.StatusRequest(Ref="r")))
    making = asyncio.create_task(client.image("r", "one"))  # both before the build is there
    await asyncio.sleep(0.1)
    began = asyncio.get_running_loop().time()
    with pytest.raises(GRPCError, match="source policies are not supported"):
        await client.solve("r", SourcePolicy=b"\x08\x01")
    assert await following == []  # the call that asked for it says why, and no other
    with pytest.raises(GRPCError, match="no such job r"):
        await making
    assert asyncio.get_running_loop().time() - began < 5
    building = client.solve("r")  # the name is free
    while not client.services.builds.has("r"):  # noqa: ASYNC110 - a question; the fixture's timeout ends it
        await asyncio.sleep(0.01)
    await client.give_back("r", result=await client.image("r", "one"))
    await building


async def test_records_are_found_by_filters(client: Client) -> None:
    for ref in ("one", "two"):
        await built(client, ref, ref)
    await failed(client, "three")

    async def found(*filters: str, **more: Any) -> list[str]:
        return [event.record.Ref for event in await client.history(Filter=filters, **more)]

    assert await found() == ["three", "two", "one"]
    assert await found(Limit=2) == ["three", "two"]
    assert await found("status==error") == ["three"]
    assert await found("status==completed,ref~=^t") == ["two"]
    assert await found("ref==one", "status==error") == ["three", "one"]
    assert await found("startedAt>=1h") == ["three", "two", "one"]
    assert await found("startedAt<1h") == []
    assert await found(Ref="two") == ["two"]
    for wrong in ("duration>soon", "ref~=(", "startedAt==1h", "ref>1"):
        with pytest.raises(GRPCError) as refused:
            await found(wrong)
        assert refused.value.status is Status.INVALID_ARGUMENT
    with pytest.raises(GRPCError, match="invalid limit -1"):
        await found(Limit=-1)


async def test_what_is_not_in_the_history_is_said(client: Client) -> None:
    with pytest.raises(GRPCError, match='lease "ref_no": not found') as refused:
        await client.update("no", Delete=True)
    assert refused.value.status is Status.UNKNOWN
    with pytest.raises(GRPCError, match="failed to retrieve ref no"):
        await client.update("no", Pinned=True)
    await client.update("no", Finalize=True)
    for digest in ("sha256:" + "0" * 64, "sha256:../../../etc/passwd", ""):
        with pytest.raises(GRPCError) as refused:
            await client.ask(CONTENT + "Info", content.InfoRequest(digest=digest), content.InfoResponse)
        assert refused.value.status is Status.NOT_FOUND


async def test_a_build_that_was_given_up_is_told_so(client: Client) -> None:
    building = client.solve("r")
    making = asyncio.create_task(client.image("r", "waits"))
    await client.builder.begun.wait()
    making.cancel()
    building.cancel()
    await asyncio.wait((making, building))
    while not (found := [event for event in await client.history() if event.type == control.COMPLETE]):  # noqa: ASYNC110 - a question; the fixture's timeout ends it
        await asyncio.sleep(0.01)
    assert (found[0].record.error.code, found[0].record.error.message) == (1, "context canceled")
    assert [event.record.Ref for event in await client.history(Filter=["status==canceled"])] == ["r"]

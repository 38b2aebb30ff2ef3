"""BuildKit's services of an instance, asked without buildx: gRPC on its socket from the first byte on."""

import asyncio
import json
from typing import Any

from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod

from compat_api.buildkit.wire import content_pb2 as content
from compat_api.buildkit.wire import control_pb2 as control
from compat_api.buildkit.wire import gateway_pb2 as gateway

BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge/"
CONTROL, CONTENT = "/moby.buildkit.v1.Control/", "/containerd.services.content.v1.Content/"


class History:
    """Finished builds, the newest first; what they refer to by digest, and what they have told by their name."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.blobs: dict[str, bytes] = {}
        self.stories: dict[str, list[control.StatusResponse]] = {}

    def source_of(self, record: Any) -> Any:
        """Where in the Dockerfile a build has failed (BuildKit's errdefs.Source)."""
        error = control.RpcStatus.FromString(self.blobs[record.externalError.digest])
        return next(json.loads(each.value) for each in error.details if each.type_url.endswith(".Source+json"))


def history(socket: str) -> History:
    """All that is known of builds."""
    return asyncio.run(_history(socket))


async def _history(socket: str) -> History:
    found, channel = History(), Channel(path=socket)
    try:
        request = control.BuildHistoryRequest(EarlyExit=True)
        for event in await _stream(channel, CONTROL + "ListenBuildHistory", request, control.BuildHistoryEvent):
            found.records.append(event.record)
        for record in found.records:
            status = control.StatusRequest(Ref=record.Ref)
            found.stories[record.Ref] = await _stream(channel, CONTROL + "Status", status, control.StatusResponse)
            described = [
                record.logs,
                record.externalError,
                *record.Result.Attestations,
                *record.Result.Results.values(),
            ]
            for descriptor in described:
                if descriptor.digest:
                    found.blobs[descriptor.digest] = await _blob(channel, descriptor.digest)
    finally:
        channel.close()
    return found


def image_configuration(socket: str, name: str, mode: str = "", *, source: bool = False) -> tuple[str, bytes]:
    """What a build is told of an image: the digest of its manifest, and its configuration. Raises GRPCError."""
    return asyncio.run(_image_configuration(socket, name, mode, source=source))


async def _image_configuration(socket: str, name: str, mode: str, *, source: bool) -> tuple[str, bytes]:
    channel = Channel(path=socket)

    async def ask(path: str, request: Any, answer: Any) -> Any:
        metadata = {"buildkit-controlapi-buildid": "asking"}
        return await UnaryUnaryMethod(channel, path, type(request), answer)(request, metadata=metadata)

    solve = control.SolveRequest(Ref="asking", Internal=True)
    building = asyncio.create_task(ask(CONTROL + "Solve", solve, control.SolveResponse))
    try:
        if source:
            asked = gateway.ResolveSourceMetaRequest(ResolveMode=mode)
            asked.Source.identifier = "docker-image://" + name
            found = (await ask(BRIDGE + "ResolveSourceMeta", asked, gateway.ResolveSourceMetaResponse)).Image
        else:
            request = gateway.ResolveImageConfigRequest(Ref=name, ResolveMode=mode)
            found = await ask(BRIDGE + "ResolveImageConfig", request, gateway.ResolveImageConfigResponse)
        return found.Digest, found.Config
    finally:
        building.cancel()
        await asyncio.wait((building,))
        channel.close()


async def _blob(channel: Channel, digest: str) -> bytes:
    ask = UnaryUnaryMethod(channel, CONTENT + "Info", content.InfoRequest, content.InfoResponse)
    info = (await ask(content.InfoRequest(digest=digest))).info
    request = content.ReadContentRequest(digest=digest)
    data = b"".join(
        piece.data for piece in await _stream(channel, CONTENT + "Read", request, content.ReadContentResponse)
    )
    assert len(data) == info.size
    return data


async def _stream(channel: Channel, path: str, request: Any, answer: Any) -> list[Any]:
    return list(await UnaryStreamMethod(channel, path, type(request), answer)(request))

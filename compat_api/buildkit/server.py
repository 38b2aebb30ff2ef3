"""gRPC for clients: the services on a connection, and what errors become."""

import logging

from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError, ProtocolError
from grpclib.server import Server

from compat_api import errors
from compat_api.buildkit import channel
from compat_api.buildkit.bridge import Bridge
from compat_api.buildkit.builds import Builds, Solver
from compat_api.buildkit.content import Content
from compat_api.buildkit.control import Control
from compat_api.buildkit.failure import Details, code_of, details
from compat_api.buildkit.rest import Uploads
from compat_api.buildkit.wire.attachable_pb2 import HealthCheckRequest, HealthCheckResponse
from service.errors import MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from compat_api.buildkit.session import Session
    from compat_api.reply import RawConnection
    from service.engine.engine import Engine

    Method = Callable[[Any], Awaitable[None]]

_STREAMS = {  # all others are one request and one answer
    "Status": Cardinality.UNARY_STREAM,
    "Prune": Cardinality.UNARY_STREAM,
    "ListenBuildHistory": Cardinality.UNARY_STREAM,
    "Read": Cardinality.UNARY_STREAM,
    "Session": Cardinality.STREAM_STREAM,
}
_SERVING = 1  # grpc.health.v1
logging.getLogger("grpclib").addHandler(logging.NullHandler())  # what goes wrong is reported below, once


class Services:
    """What one process serves by gRPC: the builds, on as many connections as there are."""

    def __init__(self, engine: "Engine", solver: Solver) -> None:
        self.builds = Builds(engine, solver)
        self.builds.uploads = Uploads()
        self._window = engine.settings.idle_window
        self._server = Server([self], codec=ProtoCodec(), status_details_codec=Details(), config=channel.CONFIGURATION)
        # grpclib asks it for the method of every call
        self._server._mapping = _Methods(self._server._mapping)

    def __mapping__(self) -> dict[str, Handler]:
        """Every method by its path (grpclib's protocol)."""
        served: dict[str, dict[str, tuple[Method, type, type]]] = {
            "/moby.buildkit.v1.Control/": Control(self.builds).methods(),
            "/moby.buildkit.v1.frontend.LLBBridge/": Bridge(self.builds).methods(),
            "/containerd.services.content.v1.Content/": Content(self.builds.engine).methods(),
            "/grpc.health.v1.Health/": {"Check": (_health, HealthCheckRequest, HealthCheckResponse)},
        }
        return {
            service + name: Handler(_answered(serve), _STREAMS.get(name, Cardinality.UNARY_UNARY), request, answer)
            for service, methods in served.items()
            for name, (serve, request, answer) in methods.items()
        }

    async def serve(self, connection: "RawConnection") -> None:
        """Answer calls until the client leaves; one that asks nothing for the idle window is sent away.

        Its next call opens a connection again: a client that keeps one does not keep the process.
        """
        made = self._server._protocol_factory()
        protocol = channel.Limited(made.handler, made.config, made.h2_config)
        connection.become(protocol)
        asked = -1
        while not await connection.closed_within(self._window):
            if not protocol.processor.streams and protocol.connection.streams_started == asked:
                protocol.dismiss()
                return
            asked = protocol.connection.streams_started

    async def serve_session(self, session: "Session", connection: "RawConnection") -> None:
        """Have a session as long as its connection lasts."""
        connection.become(session.calls.protocol)
        self.builds.sessions.add(session)
        try:
            while not await connection.closed_within(None):
                pass
        finally:
            self.builds.sessions.drop(session)


def services(engine: "Engine") -> Services:
    """Those of this process, made at their first use."""
    if engine.building is None:
        from service.engine import solve, solve_export

        engine.building = Services(engine, Solver(solve.solve, solve_export.export))
    made: Services = engine.building
    return made


class _Methods(dict[str, Handler]):
    """The methods; one that there is not answers Unimplemented as clients know it (grpclib's own answer lacks the
    content type, and Go's gRPC takes that for something else)."""

    def get(self, path: str, default: "Any" = None) -> "Any":  # noqa: ARG002 - dict's signature
        """What serves a path."""
        if path in self:
            return self[path]

        async def refuse(_stream: "Any") -> None:
            service, _, method = path.strip("/").rpartition("/")
            raise GRPCError(Status.UNIMPLEMENTED, f"unknown method {method} for service {service}")

        return Handler(refuse, Cardinality.STREAM_STREAM, HealthCheckRequest, HealthCheckResponse)


def _answered(serve: "Method") -> "Method":
    """Errors by their meaning; what nobody foresaw is reported, and the client gets a sentence that names no file."""

    async def call(stream: "Any") -> None:
        try:
            await serve(stream)
        except (GRPCError, ProtocolError, *channel.LOST):
            raise
        except MoorageError as error:
            raise GRPCError(code_of(error), error.message, details(error) or None) from None
        except Exception as error:  # noqa: BLE001 - whatever a method does, the client gets an answer
            errors.report(error)
            raise GRPCError(
                Status.UNKNOWN, f"server error: {type(error).__name__} (the service's journal has the details)"
            ) from None

    return call


async def _health(stream: "Any") -> None:
    await stream.recv_message()
    await stream.send_message(HealthCheckResponse(status=_SERVING))

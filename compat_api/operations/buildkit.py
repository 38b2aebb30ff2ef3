"""/grpc and /session: BuildKit's protocol, on connections that change from HTTP/1.1 to gRPC."""

from compat_api.declaration import Header, post
from compat_api.reply import Hijack
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.reply import RawConnection
    from service.engine.engine import Engine

_SWITCHING = ((b"Connection", b"Upgrade"), (b"Upgrade", b"h2c"))


@post("/grpc")
async def grpc(engine: "Engine", upgrade: str = Header()) -> "Hijack":
    """Speak gRPC on this connection: builds, their progress, the cache (route /grpc of the Engine; needs `h2c`)."""
    _check(upgrade)
    from compat_api.buildkit import server

    return Hijack(server.services(engine).serve, switching=_SWITCHING)


@post("/session")
async def session(
    engine: "Engine",
    upgrade: str = Header(),
    uuid: str = Header(name="x-docker-expose-session-uuid"),
    name: str = Header(name="x-docker-expose-session-name"),
    sharedkey: str = Header(name="x-docker-expose-session-sharedkey"),
    methods: str = Header(name="x-docker-expose-session-grpc-method"),
) -> "Hijack":
    """Serve a build's needs on this connection, where the client answers (API: Session)."""
    _check(upgrade)
    from compat_api.buildkit import server
    from compat_api.buildkit.session import Session

    if not uuid:
        raise InvalidParameter("session: no id given")
    services = server.services(engine)
    services.builds.sessions.check(uuid)
    opened = Session(engine, uuid, name, sharedkey, methods.split(","))

    async def serve(connection: "RawConnection") -> None:
        await services.serve_session(opened, connection)

    return Hijack(serve, switching=_SWITCHING)


def _check(upgrade: str) -> None:
    """Raises InvalidParameter as dockerd words it (moby: daemon/server/router/grpc, buildkit: session/http.go)."""
    if not upgrade:
        raise InvalidParameter("no upgrade proto in request")
    if upgrade != "h2c":
        raise InvalidParameter(f"protocol {upgrade} not supported")

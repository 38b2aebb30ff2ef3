"""/networks."""

from compat_api.declaration import ApiVersion, Filters, Text, check_boolean, delete, get, post
from compat_api.reply import Reply
from compat_api.versions import has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.schemas.networks import NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest
    from service.engine.engine import Engine


@get("/networks")
def network_list(
    engine: "Engine", filters: "dict[str, list[str]]" = Filters(), version: tuple[int, int] = ApiVersion()
) -> Reply:
    """List networks (API: NetworkList). Below 1.28 with the containers on each."""
    from service.engine import networks

    found = [
        networks.describe(engine.store, network, members=not has("networks listed without their containers", version))
        for network in networks.matching(engine.settings, engine.store, filters)
    ]
    return Reply.json(found, "NetworkSummary")


@get("/networks/{id}")
def network_inspect(
    engine: "Engine", id: str, verbose: str = Text(), scope: str = Text(), version: tuple[int, int] = ApiVersion()
) -> Reply:
    """Inspect a network (API: NetworkInspect). `verbose` adds what only a swarm has."""
    from service.engine import networks

    check_boolean(
        verbose, f'invalid value for verbose: {verbose}: strconv.ParseBool: parsing "{verbose}": invalid syntax'
    )
    found = networks.find(engine.settings, engine.store, id, scope)
    shown = networks.describe(engine.store, found, members=True)
    if has("addresses of a network counted", version):
        from service.engine import network_status

        shown["Status"] = network_status.describe(engine.store, found)
    return Reply.json(shown, "Network")


@post("/networks/create", body="compat_api.schemas.networks:NetworkCreateRequest")
async def network_create(engine: "Engine", *, body: "NetworkCreateRequest") -> Reply:
    """Create a network (API: NetworkCreate)."""
    from service.engine import network_create as made

    asked = body.model_dump(exclude_none=True)
    network_id, warning = await engine.thread(made.create, engine.settings, engine.store, asked)
    return Reply.json({"Id": network_id, "Warning": warning}, status=201)


@delete("/networks/{id}")
async def network_delete(engine: "Engine", id: str) -> Reply:
    """Remove a network (API: NetworkDelete)."""
    from service.engine import networks

    await engine.thread(networks.remove, engine.settings, engine.store, id)
    return Reply.empty()


@post("/networks/{id}/connect", body="compat_api.schemas.networks:NetworkConnectRequest")
async def network_connect(engine: "Engine", id: str, *, body: "NetworkConnectRequest") -> Reply:
    """Connect a container to a network (API: NetworkConnect)."""
    from service.engine import membership

    asked = body.EndpointConfig.model_dump(exclude_none=True) if body.EndpointConfig else None
    await engine.thread(membership.connect, engine.settings, engine.store, id, body.Container or "", asked)
    return Reply.empty(200)


@post("/networks/{id}/disconnect", body="compat_api.schemas.networks:NetworkDisconnectRequest")
async def network_disconnect(engine: "Engine", id: str, *, body: "NetworkDisconnectRequest") -> Reply:
    """Disconnect a container from a network (API: NetworkDisconnect)."""
    from service.engine import membership

    await engine.thread(
        lambda: membership.disconnect(engine.settings, engine.store, id, body.Container or "", force=bool(body.Force))
    )
    return Reply.empty(200)


@post("/networks/prune")
async def network_prune(engine: "Engine", filters: "dict[str, list[str]]" = Filters()) -> Reply:
    """Remove unused networks (API: NetworkPrune); null where there was none to remove."""
    from service.engine import networks, prune

    gone = await engine.thread(prune.alone, engine, "container", networks.prune, engine.settings, engine.store, filters)
    return Reply.json({"NetworksDeleted": gone})

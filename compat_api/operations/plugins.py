"""/plugins: what dockerd answers where no plugin is installed. None can be: that is answered as not offered."""

from compat_api.declaration import STREAM, Filters, Flag, Int, Text, delete, get, post
from compat_api.reply import Reply
from service.errors import InvalidParameter, NotFound, NotImplemented_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from compat_api.schemas.plugins import PluginPrivileges, PluginSettings

_NOT_OFFERED = "plugins are not offered by this engine"


def _unknown(name: str) -> NotFound:
    return NotFound(f'plugin "{name}" not found')


@get("/plugins")
def plugin_list(filters: "dict[str, list[str]]" = Filters()) -> Reply:
    """List the plugins (API: PluginList): none."""
    for key, values in filters.items():
        if key not in ("enabled", "capability"):
            raise InvalidParameter(f"invalid filter '{key}'")
        if key == "enabled" and not {*values} <= {"true", "false", "1", "0"}:
            raise InvalidParameter(f"invalid filter 'enabled=[{' '.join(values)}]'")
    return Reply.json([])


@get("/plugins/privileges")
async def get_plugin_privileges(remote: str = Text()) -> Reply:
    """What a plugin in a registry would ask for (API: GetPluginPrivileges)."""
    _check(remote)
    raise NotImplemented_(_NOT_OFFERED)


@post("/plugins/pull", body="compat_api.schemas.plugins:PluginPrivileges")
async def plugin_pull(remote: str = Text(), name: str = Text(), *, body: "PluginPrivileges") -> Reply:
    """Install a plugin (API: PluginPull): not offered."""
    _check(remote)
    raise NotImplemented_(_NOT_OFFERED)


@post("/plugins/create", body=STREAM)
async def plugin_create(name: str = Text(), *, body: "AsyncIterator[bytes]") -> Reply:
    """Make a plugin (API: PluginCreate): not offered."""
    try:
        _check(name)
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to parse reference {name}: {error.message}") from None
    raise NotImplemented_(_NOT_OFFERED)


@get("/plugins/{name*}/json")
def plugin_inspect(name: str) -> Reply:
    """Inspect a plugin (API: PluginInspect)."""
    raise _unknown(name)


@delete("/plugins/{name*}")
async def plugin_delete(name: str, force: bool = Flag()) -> Reply:
    """Remove a plugin (API: PluginDelete)."""
    raise _unknown(name)


@post("/plugins/{name*}/enable")
async def plugin_enable(name: str, seconds: str = Text(name="timeout")) -> Reply:
    """Enable a plugin (API: PluginEnable). The timeout must be a number, and may not be left out."""
    if not seconds:
        raise InvalidParameter('strconv.Atoi: parsing "": invalid syntax')
    Int(name="timeout").read([seconds])
    raise _unknown(name)


@post("/plugins/{name*}/disable")
async def plugin_disable(name: str, force: bool = Flag()) -> Reply:
    """Disable a plugin (API: PluginDisable)."""
    raise _unknown(name)


@post("/plugins/{name*}/upgrade", body="compat_api.schemas.plugins:PluginPrivileges")
async def plugin_upgrade(name: str, remote: str = Text(), *, body: "PluginPrivileges") -> Reply:
    """Upgrade a plugin (API: PluginUpgrade)."""
    _check(remote)
    raise _unknown(name if ":" in name.rpartition("/")[2] else name + ":latest")


@post("/plugins/{name*}/push")
async def plugin_push(name: str) -> Reply:
    """Push a plugin (API: PluginPush)."""
    raise _unknown(name)


@post("/plugins/{name*}/set", body="compat_api.schemas.plugins:PluginSettings")
async def plugin_set(name: str, *, body: "PluginSettings") -> Reply:
    """Change a plugin's settings (API: PluginSet)."""
    raise _unknown(name)


def _check(remote: str) -> None:
    from service.content import reference

    reference.parse(remote)

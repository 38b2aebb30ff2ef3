"""One declaration per operation, read by three callers: stage 0, the ASGI dispatcher, FastAPI.

    @get("/containers/json")
    def container_list(engine, all=Flag(), limit=Int(), filters=Filters()): ...

    @post("/containers/create", body="compat_api.schemas.containers:ContainerCreateRequest")
    async def container_create(engine, name=Text(), platform=Text(), *, body): ...

    @post("/images/load", body=STREAM)
    async def image_load(engine, quiet=Flag(), *, body): ...        # body: AsyncIterator[bytes]

A plain `def` without a body is short, only reads, and never waits: stage 0 may answer it. Everything else is an
`async def`. Path values come as positional arguments in the order of the path. A `*` at the end of a name in the path
(`{name*}`) takes several segments (image names hold slashes).

Nothing here may import more than builtins: this module is on the path of the first answer.
"""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OPERATIONS: "list[Operation]" = []
STREAM = "stream"  # the body is handed over as it arrives


class Parameter:
    """One query parameter (or header) in Docker's dialect. `default` is what an absent one means."""

    schema: "dict[str, Any]" = {"type": "string"}
    blank: "Any" = ""
    source = "query"

    def __init__(self, default: "Any" = None, name: str = "") -> None:
        self.default = self.blank if default is None else default
        self.name = name

    def read(self, texts: "list[str]") -> "Any":
        """The value that the given texts mean (more than one when the key was repeated; the first one counts)."""
        return texts[0]


class Text(Parameter):
    """Any text."""


class Texts(Parameter):
    """A key that may be repeated: all its texts."""

    schema = {"type": "array", "items": {"type": "string"}}
    blank: "Any" = ()

    def read(self, texts: "list[str]") -> "Any":
        return texts


class Flag(Parameter):
    """Docker's reading of a boolean: blank, 0, no, false and none are false, anything else is true."""

    schema = {"type": "boolean"}
    blank = False

    def read(self, texts: "list[str]") -> "Any":
        return texts[0].strip().lower() not in ("", "0", "no", "false", "none")


class Int(Parameter):
    """A decimal integer; blank is the default."""

    schema = {"type": "integer"}
    blank = 0

    def read(self, texts: "list[str]") -> "Any":
        if not texts[0]:
            return self.default
        try:
            return int(texts[0])
        except ValueError:
            raise InvalidParameter(f'strconv.Atoi: parsing "{texts[0]}": invalid syntax') from None


class Filters(Parameter):
    """JSON in the query: {key: [values]} or the older {key: {value: true}}; read as {key: [values]}."""

    schema = {"type": "string", "description": 'JSON: {"key": ["value"]}'}
    blank: "Any" = {}

    def read(self, texts: "list[str]") -> "Any":
        if not texts[0]:
            return {}
        from service import jsontext

        try:
            given = jsontext.loads(texts[0])
        except ValueError:
            raise InvalidParameter("invalid filter") from None
        if not isinstance(given, dict):
            raise InvalidParameter("invalid filter")
        read: dict[str, list[str]] = {}
        for key, values in given.items():
            if isinstance(values, dict):
                read[key] = [value for value, wanted in values.items() if wanted is True]
                if len(read[key]) != len(values) and any(not isinstance(v, bool) for v in values.values()):
                    raise InvalidParameter("invalid filter")
            elif isinstance(values, list) and all(isinstance(value, str) for value in values):
                read[key] = values
            else:
                raise InvalidParameter("invalid filter")
        return read


class Header(Parameter):
    """A request header, by its lower-case name, e.g. Header(name="x-registry-auth")."""

    source = "header"


class ApiVersion(Parameter):
    """The API version asked for, as a tuple such as (1, 44); the newest when the path names none."""

    source = "version"

"""One declaration per operation, read by three callers: stage 0, the ASGI dispatcher, FastAPI.

    @get("/containers/json")
    def container_list(engine, all: bool = Flag(), limit: int = Int(), filters=Filters()) -> "Reply": ...

    @post("/containers/create", body="compat_api.schemas.containers:ContainerCreateRequest")
    async def container_create(engine, name=Text(), platform=Text(), *, body) -> "Reply": ...

    @post("/images/load", body=STREAM)
    async def image_load(engine, quiet=Flag(), *, body) -> "Stream": ...        # body: AsyncIterator[bytes]

    @post("/containers/{id}/attach")
    async def container_attach(engine, id, stream=Flag()) -> "Hijack": ...

What the signature says is the declaration; nothing is said twice:

- A plain `def` without a body is short, only reads, and never waits: stage 0 may answer it. Everything else is an
  `async def`. (Where only some requests take long, it answers those with a `Later`.)
- The first parameter is the engine when it is named `engine`; a handler without it needs no engine to be made.
- Path values come next, as positional arguments in the order of the path. A `*` at the end of a name in the path
  (`{name*}`) takes several segments (image names hold slashes).
- Parameters with a `Parameter` as default are read from the query, a header, or the version asked for.
- A return annotation that names `Hijack` (alone, or as in "Reply | Hijack") means that the connection may be taken
  over: what a client sends after such a request is never read as another request.

Nothing here may import more than builtins: this module is on the path of the first answer.
"""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    Handler = TypeVar("Handler", bound=Callable[..., Any])

OPERATIONS: "list[Operation]" = []
STREAM = "stream"  # the body is handed over as it arrives
_COROUTINE = 0x80  # CO_COROUTINE of a code object's flags (module `inspect` of Python's library)


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


class _Text(Parameter):
    """Any text."""


class _Texts(Parameter):
    """A key that may be repeated: all its texts."""

    schema = {"type": "array", "items": {"type": "string"}}
    blank: "Any" = ()

    def read(self, texts: "list[str]") -> "Any":
        return texts


class _Flag(Parameter):
    """Docker's reading of a boolean: blank, 0, no, false and none are false, anything else is true."""

    schema = {"type": "boolean"}
    blank = False

    def read(self, texts: "list[str]") -> "Any":
        return texts[0].strip().lower() not in ("", "0", "no", "false", "none")


class _Int(Parameter):
    """A decimal integer; blank is the default."""

    schema = {"type": "integer"}
    blank = 0

    def read(self, texts: "list[str]") -> "Any":
        if not texts[0]:
            return self.default
        digits = texts[0][1:] if texts[0][0] in "+-" else texts[0]
        if not digits.isascii() or not digits.isdigit():  # int() takes blanks and underscores as well
            raise InvalidParameter(f'strconv.Atoi: parsing "{texts[0]}": invalid syntax')
        if not -(1 << 63) <= int(texts[0][:21]) < 1 << 63:
            raise InvalidParameter(f'strconv.Atoi: parsing "{texts[0]}": value out of range')
        return int(texts[0])


def check_boolean(text: str, complaint: str) -> None:
    """Where Docker insists on a boolean as Go spells it (blank is none). Raises InvalidParameter with `complaint`."""
    if text and text not in ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"):
        raise InvalidParameter(complaint)


class _Filters(Parameter):
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
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise InvalidParameter("invalid filter")
        read: dict[str, list[str]] = {}
        for key, values in given.items():
            if values is None:
                read[key] = []
            elif isinstance(values, dict):
                read[key] = [value for value, wanted in values.items() if wanted is True]
                if len(read[key]) != len(values) and any(not isinstance(v, bool) for v in values.values()):
                    raise InvalidParameter("invalid filter")
            elif isinstance(values, list) and all(isinstance(value, str) for value in values):
                read[key] = values
            else:
                raise InvalidParameter("invalid filter")
        return read


class _Header(Parameter):
    """A request header, by its lower-case name, e.g. Header(name="x-registry-auth")."""

    source = "header"


class _ApiVersion(Parameter):
    """The API version asked for, as a tuple such as (1, 44); the newest when the path names none."""

    source = "version"


# Functions, not the classes themselves: a handler annotates a parameter with what it is given (`all: bool = Flag()`).


def Text(default: str = "", name: str = "") -> "Any":  # noqa: N802 - reads as a declaration
    """Any text."""
    return _Text(default, name)


def Texts(name: str = "") -> "Any":  # noqa: N802 - as above
    """A key that may be repeated: a sequence of all its texts."""
    return _Texts(None, name)


def Flag(default: bool = False, name: str = "") -> "Any":  # noqa: N802 - as above
    """A boolean in Docker's reading."""
    return _Flag(default, name)


def Int(default: int = 0, name: str = "") -> "Any":  # noqa: N802 - as above
    """A decimal integer."""
    return _Int(default, name)


def Filters(name: str = "") -> "Any":  # noqa: N802 - as above
    """Docker's `filters`: a dict of lists of texts."""
    return _Filters(None, name)


def Header(default: str = "", name: str = "") -> "Any":  # noqa: N802 - as above
    """A request header's text, by the header's lower-case name."""
    return _Header(default, name)


def ApiVersion() -> "Any":  # noqa: N802 - as above
    """The API version asked for: a tuple such as (1, 44)."""
    return _ApiVersion()


class Operation:
    """One operation of the API: method, path, where its parameters come from, and its handler."""

    __slots__ = ("body", "body_required", "handler", "hijacks", "method", "parameters", "path", "takes_engine", "waits")

    def __init__(self, method: str, path: str, handler: "Callable[..., Any]", body: str, body_required: bool) -> None:
        self.method, self.path, self.handler = method, path, handler
        self.body = body  # "" none, STREAM, or "module:Model"
        self.body_required = body_required  # an empty body is refused instead of read as {}
        code = handler.__code__
        names = code.co_varnames[: code.co_argcount]
        defaults: tuple[Parameter, ...] = handler.__defaults__ or ()
        keyword_only: dict[str, Parameter] = handler.__kwdefaults__ or {}
        self.parameters = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True)) | keyword_only
        for name, parameter in self.parameters.items():
            parameter.name = parameter.name or name
        self.takes_engine = names[:1] == ("engine",)
        self.waits = bool(code.co_flags & _COROUTINE)
        self.hijacks = "Hijack" in str(handler.__annotations__.get("return", ""))

    def arguments(self, query: bytes, headers: "Mapping[bytes, bytes]", version: tuple[int, int]) -> "dict[str, Any]":
        """What the request says for each declared parameter. Raises InvalidParameter."""
        given = parse_query(query) if query else {}
        arguments: dict[str, Any] = {}
        for argument, parameter in self.parameters.items():
            if parameter.source == "query":
                texts = given.get(parameter.name)
                arguments[argument] = parameter.default if texts is None else parameter.read(texts)
            elif parameter.source == "header":
                value = headers.get(parameter.name.encode())
                arguments[argument] = parameter.default if value is None else value.decode("latin-1")
            else:
                arguments[argument] = version
        return arguments

    def call(
        self, engine: "Callable[[], Any]", values: "Sequence[str]", arguments: "dict[str, Any]", **body: "Any"
    ) -> "Any":
        """Call the handler; `engine` makes the engine when it is first needed."""
        if self.takes_engine:
            return self.handler(engine(), *values, **arguments, **body)
        return self.handler(*values, **arguments, **body)


def operation(method: str, path: str, body: str = "", body_required: bool = False) -> "Callable[[Handler], Handler]":
    """Declare the decorated function as the handler of `method path` (the path without its version)."""

    def declare(handler: "Handler") -> "Handler":
        declared = Operation(method, path, handler, body, body_required)
        OPERATIONS.append(declared)
        _plant(declared)
        return handler

    return declare


def get(path: str) -> "Callable[[Handler], Handler]":
    """Declare a GET."""
    return operation("GET", path)


def head(path: str) -> "Callable[[Handler], Handler]":
    """Declare a HEAD; it may share its handler with a GET (the body is then left out)."""
    return operation("HEAD", path)


def post(path: str, body: str = "", body_required: bool = False) -> "Callable[[Handler], Handler]":
    """Declare a POST."""
    return operation("POST", path, body, body_required)


def put(path: str, body: str = "", body_required: bool = False) -> "Callable[[Handler], Handler]":
    """Declare a PUT."""
    return operation("PUT", path, body, body_required)


def delete(path: str) -> "Callable[[Handler], Handler]":
    """Declare a DELETE."""
    return operation("DELETE", path)


class _Node:
    """One place in the tree of paths: what may follow it, and the operations that end here by method."""

    __slots__ = ("ends", "fixed", "many", "value")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.value: _Node | None = None  # after one segment of any text
        self.many: _Node | None = None  # after one or more segments of any text
        self.ends: dict[str, Operation] = {}


_ROOT = _Node()


def _plant(declared: Operation) -> None:
    node = _ROOT
    for segment in declared.path.strip("/").split("/"):
        if segment[:1] != "{":
            node = node.fixed.setdefault(segment, _Node())
        elif segment.endswith("*}"):
            node.many = node.many or _Node()
            node = node.many
        else:
            node.value = node.value or _Node()
            node = node.value
    if declared.method in node.ends:
        raise RuntimeError(f"{declared.method} {declared.path} is declared twice")
    node.ends[declared.method] = declared


def match(method: str, path: str) -> "tuple[Operation, list[str]] | None":
    """The operation and its path values for a decoded path without version; None when there is none.

    Fixed segments win over values; a value that takes several segments takes as few as the rest allows.
    """
    return _match(_ROOT, method, path.split("/")[1:], 0) if path[:1] == "/" else None


def _match(node: _Node, method: str, segments: list[str], at: int) -> "tuple[Operation, list[str]] | None":
    if at == len(segments):
        ended = node.ends.get(method)
        return (ended, []) if ended else None
    further = node.fixed.get(segments[at])
    found = _match(further, method, segments, at + 1) if further else None
    if found is None and node.value and segments[at]:
        found = _match(node.value, method, segments, at + 1)
        if found:
            found[1].insert(0, segments[at])
    if found is None and node.many:
        for end in range(at + 1, len(segments) + 1):
            found = _match(node.many, method, segments, end)
            if found:
                found[1].insert(0, "/".join(segments[at:end]))
                break
    return found


def parse_query(raw: bytes) -> "dict[str, list[str]]":
    """The texts of each key, in order. Raises InvalidParameter as Go's url.ParseQuery words it."""
    given: dict[str, list[str]] = {}
    for pair in raw.split(b"&"):
        if not pair:
            continue
        if b";" in pair:
            raise InvalidParameter("invalid semicolon separator in query")
        name, _, value = pair.partition(b"=")
        given.setdefault(unquote(name, plus=True), []).append(unquote(value, plus=True))
    return given


def unquote(raw: bytes, plus: bool = False) -> str:
    """Percent-decoded text (`+` is a blank in a query). Raises InvalidParameter for a bad escape."""
    if plus:
        raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        start, *rest = raw.split(b"%")
        pieces = [start]
        for part in rest:
            try:
                pieces.append(bytes.fromhex(part[:2].decode("ascii")) + part[2:])
            except ValueError:
                pieces = []
            if not pieces or len(part) < 2 or part[:2].strip() != part[:2]:
                raise InvalidParameter(f'invalid URL escape "%{part[:2].decode("latin-1")}"')
        raw = b"".join(pieces)
    return raw.decode("utf-8", "replace")

"""Request bodies in JSON: what dockerd refuses, in its words, and the validation of the rest by pydantic."""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BODY_LIMIT = 16 << 20  # bytes; the largest create request in the wild is far below 1 MiB
EMPTY_BODY = "invalid JSON: got EOF while reading request body"


def check_content_type(content_type: "bytes | None", empty: bool) -> None:
    """Refuse a body that is not announced as JSON. No Content-Type is fine as long as there is no body."""
    if content_type is None and empty:
        return
    text = (content_type or b"").decode("latin-1")
    media_type = text.partition(";")[0].strip().lower()
    if not media_type:
        raise InvalidParameter(f"malformed Content-Type header ({text}): mime: no media type")
    if media_type != "application/json":
        raise InvalidParameter(f"unsupported Content-Type header ({text}): must be 'application/json'")


def read(reference: str, body: bytes, content_type: "bytes | None", required: bool) -> "Any":
    """The pydantic model named by `reference` ("module:Model"), filled from `body`. Raises InvalidParameter.

    An empty body means `{}` unless it is required; `null` means `{}`, as for Go's decoder.
    """
    check_content_type(content_type, not body)
    if body:
        given = decode(body)
    elif required:
        raise InvalidParameter(EMPTY_BODY)
    else:
        given = None
    module, _, name = reference.partition(":")
    model = getattr(__import__(module, fromlist=(name,)), name)
    if given is None:
        given = [] if "root" in model.model_fields else {}  # Go's nil: of a list, or of an object
    return validate(model, given)


def decode(body: bytes) -> "Any":
    """The JSON value that `body` is. Raises InvalidParameter with dockerd's texts."""
    from compat_api import gojson

    if not body.strip(b" \t\r\n"):
        raise InvalidParameter(EMPTY_BODY)
    return gojson.decode(body)


def validate(model: "Any", given: "Any") -> "Any":
    """`model` filled from a decoded value. Raises InvalidParameter as Go's decoder words a type that does not fit."""
    import pydantic

    try:
        return model.model_validate(given)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidParameter(_complaint(model.__name__, first)) from None


# What Go calls the wanted type, by pydantic's kind of error. A message raised by a validator of ours is kept as it is.
_WANTED = {
    "int_type": "int64",
    "int_parsing": "int64",
    "int_from_float": "int64",
    "float_type": "float64",
    "float_parsing": "float64",
    "bool_type": "bool",
    "bool_parsing": "bool",
    "string_type": "string",
    "list_type": "[]string",
    "dict_type": "map[string]string",
    "mapping_type": "map[string]string",
}


# … and by the bound that a number does not keep.
_BOUNDED = {1 << 16: "uint16", 1 << 63: "int64", 1 << 64: "uint64", 0: "uint64", -(1 << 63): "int64"}


def _complaint(model: str, error: "Any") -> str:
    kind = error["type"]
    if kind in ("value_error", "assertion_error"):
        return str(error["ctx"]["error"])
    # Beside keys, a location names list positions and the members of unions ("list[str]", "function-before[…]").
    field = ".".join(part for part in error["loc"] if isinstance(part, str) and part.replace("_", "").isalnum())
    given = error.get("input")
    if kind in _WANTED:
        wanted = _WANTED[kind]
    elif kind in ("less_than", "greater_than_equal") and (bound := _bound(error)) in _BOUNDED:
        wanted = _BOUNDED[bound]
    elif kind.startswith(("model_", "dataclass_")):
        wanted = str(error.get("ctx", {}).get("class_name", model))
    else:
        return f"invalid JSON: {field}: {error['msg']}"
    target = f"Go struct field {model}.{field}" if field else "Go value"
    number = f" {given}" if kind in ("less_than", "greater_than_equal") else ""
    return f"invalid JSON: json: cannot unmarshal {_go_kind(given)}{number} into {target} of type {wanted}"


def _bound(error: "Any") -> "Any":
    bounds = error.get("ctx", {})
    return bounds.get("lt", bounds.get("ge"))


def _go_kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return f"number {value}" if isinstance(value, float) else "number"
    return "array" if isinstance(value, list) else "object"

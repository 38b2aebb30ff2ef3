"""JSON without the `json` package, whose imports alone cost a cold process about 9 ms.

The C scanner and encoder that `json` wraps are used directly. The text written is as Go's encoder writes it for
Docker: characters kept as they are (not `\\uXXXX`), no blanks between tokens.
"""

import _json

TYPE_CHECKING = False  # `typing` costs 5 ms; a type checker takes this name for its own constant
if TYPE_CHECKING:
    from typing import Any


class _Grammar:
    """What `_json.make_scanner` asks of its context: Python's own reading of JSON, nothing exotic."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: "dict[str, str]" = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"invalid character {name[0]!r} looking for beginning of value")


_scan = _json.make_scanner(_Grammar)  # type: ignore[arg-type]  # typeshed asks for what the C code does not
_BLANKS = " \t\n\r"


def loads(text: "str | bytes") -> "Any":
    """The value that `text` (UTF-8 when bytes) spells.

    Raises ValueError when it is not exactly one JSON value.
    """
    if isinstance(text, bytes):
        text = text.decode()
    start = 0
    while start < len(text) and text[start] in _BLANKS:
        start += 1
    try:
        value, end = _scan(text, start)
    except StopIteration as stop:
        raise ValueError(f"invalid JSON at character {stop.value}") from None
    except RecursionError:
        raise ValueError("exceeded max depth") from None
    except SystemError:  # the scanner could not find `json.decoder` to word its complaint: let it be worded there
        import json

        return json.loads(text)
    if text[end:].strip(_BLANKS):
        raise ValueError("unexpected content after JSON")
    return value


def _refuse(value: object) -> "Any":
    raise TypeError(f"{type(value).__name__} has no JSON form")


_encode = _json.make_encoder(None, _refuse, _json.encode_basestring, None, ":", ",", False, False, False)


def dumps(value: "Any") -> str:
    """`value` as one line of JSON. Raises TypeError for what JSON cannot spell."""
    return "".join(_encode(value, 0))


def dump_bytes(value: "Any") -> bytes:
    """`value` as UTF-8 JSON; a lone surrogate (from a file name, say) becomes U+FFFD's stand-in `?`."""
    return dumps(value).encode("utf-8", "replace")

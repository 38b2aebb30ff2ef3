"""JSON bodies: what is refused and with which words (compared with dockerd's own answers)."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compat_api import gojson, params
from service.errors import InvalidParameter

THING = "tests.support.wire_schema:Thing"


def refused(body: bytes, content_type: bytes | None = b"application/json", required: bool = False) -> str:
    """The message that `body` gets."""
    with pytest.raises(InvalidParameter) as raised:
        params.read(THING, body, content_type, required)
    return raised.value.message


@pytest.mark.parametrize(
    ("content_type", "message"),
    [
        (b"text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (b"text/plain; a=b", "unsupported Content-Type header (text/plain; a=b): must be 'application/json'"),
        (b"", "malformed Content-Type header (): mime: no media type"),
        (None, "malformed Content-Type header (): mime: no media type"),
    ],
)
def test_content_type(content_type: bytes | None, message: str) -> None:
    assert refused(b"{}", content_type) == message


@pytest.mark.parametrize("content_type", [b"application/json", b"Application/JSON; charset=utf-8"])
def test_content_types_of_json(content_type: bytes) -> None:
    assert params.read(THING, b'{"Name":"x"}', content_type, True).Name == "x"


@pytest.mark.parametrize("body", [b"", b"null", b"{}"])
def test_nothing_means_all_defaults(body: bytes) -> None:
    assert params.read(THING, body, None if not body else b"application/json", False).Size == 0


def test_an_empty_body_where_one_is_required() -> None:
    assert refused(b"", None, required=True) == "invalid JSON: got EOF while reading request body"
    assert refused(b" \n", required=False) == "invalid JSON: got EOF while reading request body"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "unexpected EOF"),
        (b'{"Name"', "unexpected EOF"),
        (b'{"Name":"x', "unexpected EOF"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b"{x", "invalid character 'x' looking for beginning of object key string"),
        (b'{"a"x', "invalid character 'x' after object key"),
        (b'{"a":1x', "invalid character 'x' after object key:value pair"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"[1x", "invalid character 'x' after array element"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b'{"Image":tru}', "invalid character '}' in literal true (expecting 'e')"),
        (b'{"a":"\n"}', "invalid character '\\n' in string literal"),
        (b'{"a":"\\x"}', "invalid character 'x' in string escape code"),
        (b'{"a":"\\u12g4"}', "invalid character 'g' in \\u hexadecimal character escape"),
        (b'{"a":-x}', "invalid character 'x' in numeric literal"),
        (b'{"a":1.x}', "invalid character 'x' after decimal point in numeric literal"),
        (b'{"a":1ex}', "invalid character 'x' in exponent of numeric literal"),
        (b'{"a":01}', "invalid character '1' after object key:value pair"),
        (b"[" * 10001, "exceeded max depth"),
    ],
)
def test_what_is_not_json(body: bytes, message: str) -> None:
    assert refused(body) == f"invalid JSON: {message}"


@pytest.mark.parametrize("body", [b"{} {}", b"{}x", b"{}}", b"null 1"])
def test_something_after_it(body: bytes) -> None:
    assert refused(body) == "unexpected content after JSON"


@pytest.mark.parametrize(
    ("body", "given_kind", "field", "wanted"),
    [
        (b'{"Name":1}', "number", "Thing.Name", "string"),
        (b'{"Name":true}', "bool", "Thing.Name", "string"),
        (b'{"Size":"x"}', "string", "Thing.Size", "int64"),
        (b'{"Size":1.5}', "number 1.5", "Thing.Size", "int64"),
        (b'{"On":"maybe"}', "string", "Thing.On", "bool"),
        (b'{"List":{}}', "object", "Thing.List", "[]string"),
        (b'{"List":[1]}', "number", "Thing.List", "string"),
        (b'{"Inner_":{"Deep":[]}}', "array", "Thing.Inner_.Deep", "int64"),
    ],
)
def test_what_does_not_fit(body: bytes, given_kind: str, field: str, wanted: str) -> None:
    expected = f"invalid JSON: json: cannot unmarshal {given_kind} into Go struct field {field} of type {wanted}"
    assert refused(body) == expected


def test_not_an_object() -> None:
    assert refused(b"[1]") == "invalid JSON: json: cannot unmarshal array into Go value of type Thing"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_json_spells_is_read(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=1), json.dumps(value, ensure_ascii=False)):
        assert gojson.decode(text.encode("utf-8", "replace")) == json.loads(text.encode("utf-8", "replace"))


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u \n') | st.binary().map(lambda b: b.decode("latin-1")))
@settings(max_examples=500, deadline=None)
def test_the_scanner_agrees_with_the_library(text: str) -> None:
    """Both take a text, or both refuse it; and refusing is never a crash."""
    body = text.encode()
    try:
        ours: object = gojson.decode(body)
    except InvalidParameter:
        ours = InvalidParameter
    try:
        theirs: object = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    except ValueError:
        theirs = InvalidParameter
    assert ours == theirs

"""What a declaration means: paths, query, headers. The operations here are the product's own where they can be."""

import re

import pytest

from compat_api import declaration, operations
from compat_api.declaration import ApiVersion, Filters, Flag, Header, Int, Operation, Text, Texts
from compat_api.reply import Hijack, Reply
from service.errors import InvalidParameter


def declared(handler: object, body: str = "") -> Operation:
    """An operation that no path leads to."""
    assert callable(handler)
    return Operation("GET", "/nowhere/{id}", handler, body, False)


def handler(
    engine: object,
    id: str,
    all: bool = Flag(),
    limit: int = Int(-1),
    filters: "dict[str, list[str]]" = Filters(),
    names: "list[str]" = Texts(name="name"),
    detach_keys: str = Text(name="detachKeys"),
    auth: str = Header(name="x-registry-auth"),
    version: tuple[int, int] = ApiVersion(),
) -> Reply:
    """A handler with one parameter of each kind."""
    return Reply()


def read(query: bytes, headers: dict[bytes, bytes] | None = None) -> dict[str, object]:
    """What `handler` would be given."""
    return declared(handler).arguments(query, headers or {}, (1, 44))


def test_absent_parameters_have_their_defaults() -> None:
    expected = {"all": False, "limit": -1, "filters": {}, "names": (), "detach_keys": "", "auth": ""}
    assert read(b"") == {**expected, "version": (1, 44)}


def test_every_kind() -> None:
    query = b"all=1&limit=%33&filters=%7B%22a%22:%5B%22b%22%5D%7D&name=x&name=y%2Fz&detachKeys=ctrl-a,b+c&unknown=1"
    expected = {"all": True, "limit": 3, "filters": {"a": ["b"]}, "names": ["x", "y/z"], "detach_keys": "ctrl-a,b c"}
    assert read(query, {b"x-registry-auth": b"e30="}) == {**expected, "auth": "e30=", "version": (1, 44)}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [(text, True) for text in ("1", "true", "True", "yes", "x", "2")]
    + [(text, False) for text in ("", "0", "false", "FALSE", "no", " none ")],
)
def test_docker_reads_booleans_its_own_way(text: str, meaning: bool) -> None:
    assert read(b"all=" + text.encode().replace(b" ", b"+"))["all"] is meaning


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (b"limit=x", 'strconv.Atoi: parsing "x": invalid syntax'),
        (b"limit=1_0", 'strconv.Atoi: parsing "1_0": invalid syntax'),
        (b"limit=-", 'strconv.Atoi: parsing "-": invalid syntax'),
        (b"limit=9223372036854775808", 'strconv.Atoi: parsing "9223372036854775808": value out of range'),
        (b"filters=x", "invalid filter"),
        (b"filters=%5B%5D", "invalid filter"),
        (b'filters={"a":1}', "invalid filter"),
        (b'filters={"a":[1]}', "invalid filter"),
        (b'filters={"a":{"b":1}}', "invalid filter"),
        (b"a=%zz", 'invalid URL escape "%zz"'),
        (b"a=%4", 'invalid URL escape "%4"'),
        (b"a=%", 'invalid URL escape "%"'),
        (b"a=1;b=2", "invalid semicolon separator in query"),
    ],
)
def test_bad_queries(query: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        read(query)
    assert raised.value.message == message


def test_both_spellings_of_filters() -> None:
    assert read(b'filters={"label":{"a=b":true,"c":false}}')["filters"] == {"label": ["a=b"]}
    assert read(b"filters=")["filters"] == {}


def test_a_handler_says_by_itself_what_it_is() -> None:
    async def waits() -> "Reply | Hijack":
        return Reply()

    assert declared(waits).waits
    assert declared(waits).hijacks
    assert not declared(waits).takes_engine
    assert not declared(handler).waits
    assert not declared(handler).hijacks
    assert declared(handler).takes_engine


def test_the_engine_is_made_only_for_those_who_take_it() -> None:
    found = operations.find("GET", "/_ping")
    assert found is not None

    def no_engine() -> None:
        raise AssertionError("made")

    assert found[0].call(no_engine, [], {}).body == b"OK"


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty tree with a few paths whose values may be confused."""
    monkeypatch.setattr(declaration, "_ROOT", declaration._Node())
    monkeypatch.setattr(declaration, "OPERATIONS", [])
    for method, path in (
        ("GET", "/images/json"),
        ("GET", "/images/get"),
        ("GET", "/images/{name*}/json"),
        ("GET", "/images/{name*}/get"),
        ("DELETE", "/images/{name*}"),
        ("GET", "/containers/{id}/json"),
        ("HEAD", "/containers/{id}/archive"),
        ("GET", "/containers/{id}/archive"),
    ):
        declaration.operation(method, path)(handler)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/images/json", ("/images/json", [])),
        ("GET", "/images/busybox/json", ("/images/{name*}/json", ["busybox"])),
        ("GET", "/images/host:5000/a/b:tag/json", ("/images/{name*}/json", ["host:5000/a/b:tag"])),
        ("GET", "/images/json/json", ("/images/{name*}/json", ["json"])),
        ("GET", "/images/a/json/json", ("/images/{name*}/json", ["a/json"])),
        ("DELETE", "/images/a/b", ("/images/{name*}", ["a/b"])),
        ("DELETE", "/images/json", ("/images/{name*}", ["json"])),
        ("GET", "/containers/x/json", ("/containers/{id}/json", ["x"])),
        ("HEAD", "/containers/x/archive", ("/containers/{id}/archive", ["x"])),
        ("HEAD", "/containers/x/json", None),
        ("GET", "/containers//json", None),
        ("GET", "/containers/x/y/json", None),
        ("GET", "/containers/x/json/", None),
        ("GET", "/images", None),
        ("POST", "/images/json", None),
        ("GET", "", None),
        ("GET", "images/json", None),
    ],
)
@pytest.mark.usefixtures("tree")
def test_find(method: str, path: str, found: tuple[str, list[str]] | None) -> None:
    matched = declaration.match(method, path)
    assert (matched and (matched[0].path, matched[1])) == found


@pytest.mark.usefixtures("tree")
def test_a_path_is_declared_once() -> None:
    with pytest.raises(RuntimeError, match="declared twice"):
        declaration.operation("GET", "/images/json")(handler)


def test_every_operation_can_be_found_by_its_own_path() -> None:
    operations.load_all()
    for one in declaration.OPERATIONS:
        path = one.path.replace("{", "a").replace("*}", "").replace("}", "")
        found = operations.find(one.method, path)
        assert found is not None, one.path
        assert found[0] is one, f"{path} leads to {found[0].path}"


def test_no_path_is_known_to_two_modules() -> None:
    """A cold process asks one module after the other, and goes with the first that knows the path."""
    operations.load_all()
    for one in declaration.OPERATIONS:
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", re.sub(r"\{\w+\*\}", ".+", one.path)))
        for other in declaration.OPERATIONS:
            if other.method == one.method and other.handler.__module__ != one.handler.__module__:
                assert not pattern.fullmatch(other.path), f"{other.path} is {one.path}, too"


def test_short_operations_are_reads() -> None:
    """Stage 0 answers a plain `def` at once, and everybody else waits meanwhile: so it must not change anything."""
    operations.load_all()
    wrong = [one.path for one in declaration.OPERATIONS if not one.waits and one.method not in ("GET", "HEAD")]
    assert not wrong
    assert not [one.path for one in declaration.OPERATIONS if one.body and not one.waits]

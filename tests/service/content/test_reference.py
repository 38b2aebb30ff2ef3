"""Names of images: the grammar of Docker's references, and its words for what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.content import reference
from service.errors import InvalidParameter

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "canonical", "short"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/moby/buildkit", "docker.io/moby/buildkit:latest", "moby/buildkit:latest"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ("Registry/a", "Registry/a:latest", "Registry/a:latest"),
        (f"a__b.c--d@sha256:{HEX}", f"docker.io/library/a__b.c--d@sha256:{HEX}", f"a__b.c--d@sha256:{HEX}"),
        (f"a:1@sha256:{HEX}", f"docker.io/library/a:1@sha256:{HEX}", f"a:1@sha256:{HEX}"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ],
)
def test_names_are_completed_and_shortened(text: str, canonical: str, short: str) -> None:
    parsed = reference.parse(text).with_default_tag()
    assert (str(parsed), parsed.familiar) == (canonical, short)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("busybox:sha256:abc", "invalid reference format"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a@sha256:12", "invalid reference format"),
        (f"a@sha256:{HEX[:40]}", "invalid checksum digest length"),
        (f"a@md7:{HEX}", "unsupported digest algorithm"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        ("a" * 300, "repository name must not be more than 255 characters"),
    ],
)
def test_what_is_no_name_is_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        reference.parse(text)
    assert refused.value.message == message


def test_ids_are_not_names() -> None:
    assert reference.parse_any(HEX) == f"sha256:{HEX}"
    assert reference.parse_any(f"sha256:{HEX}") == f"sha256:{HEX}"


@given(st.text(alphabet="ab./:@-_A1[]", max_size=20))
def test_a_name_that_is_read_reads_the_same_again(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except InvalidParameter:
        return
    assert str(reference.parse(str(parsed))) == str(parsed)
    assert str(reference.parse(parsed.familiar)) == str(parsed)

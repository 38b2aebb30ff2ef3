"""--chmod: what modes mean. The expected permissions are those of a file in an image that BuildKit 0.25 (dockerd 28.5)
has built of files of 0644 and directories of 0750."""

import re
import stat

import pytest

from service.builder import modes

FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o750


@pytest.mark.parametrize(
    ("text", "file", "folder"),
    [
        ("755", 0o755, 0o755),
        ("0000000755", 0o755, 0o755),
        ("0", 0, 0),
        ("7777", 0o7777, 0o7777),
        ("u=rwX,go=rX", 0o644, 0o755),
        ("g+w", 0o664, 0o770),
        ("a-x", 0o644, 0o640),
        ("a-X", 0o644, 0o640),
        ("u+s", 0o4644, 0o4750),
        ("ug+s", 0o6644, 0o6750),
        ("o+s", 0o644, 0o750),
        ("a+s", 0o6644, 0o6750),
        ("+t", 0o1644, 0o1750),
        ("o+t", 0o644, 0o750),
        ("=t", 0o1644, 0o1750),
        ("+rt", 0o1644, 0o1750),
        ("=tr", 0o1644, 0o1750),
        ("u=tr", 0o1444, 0o1450),
        ("go=", 0o600, 0o700),
        ("go=u-w", 0o644, 0o755),
        ("g=u,o=", 0o660, 0o770),
        ("u=gr", 0o444, 0o450),
        ("u=rg", 0o444, 0o550),
        ("u=g", 0o444, 0o550),
        ("=u", 0o666, 0o777),
        ("+X", 0o644, 0o751),
        ("=X", 0, 0o111),
        ("+x", 0o755, 0o751),
        ("-w", 0o444, 0o550),
        ("=r", 0o444, 0o444),
        ("u+X-x", 0o644, 0o650),
        ("-x,+X", 0o644, 0o751),
        ("u==", 0o44, 0o50),
        ("u+=", 0o44, 0o50),
        ("+", 0o644, 0o750),
        ("u+x,g-r,o=w", 0o702, 0o712),
        ("ug=o", 0o444, 0),
        ("a=rwxst", 0o7777, 0o7777),
        ("u=,g=u", 0o4, 0),
    ],
)
def test_a_mode_is_applied(text: str, file: int, folder: int) -> None:
    mode = modes.parse(text)
    assert (oct(mode.applied(FILE)), oct(mode.applied(FOLDER))) == (oct(file), oct(folder))


@pytest.mark.parametrize("text", ["8", "0o755", "10000", "7a", "9,u+x"])
def test_what_looks_like_a_number_is_an_octal_one(text: str) -> None:
    with pytest.raises(
        modes.BadMode, match=rf"^invalid chmod parameter: '{re.escape(text)}'. it should be octal string and"
    ):
        modes.parse(text)


@pytest.mark.parametrize("text", ["rwx", "X", "u", "u=q", "u+r,", ",u+r", "u=a", "+7", "-1", "z+r", "u=rw,'"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(modes.BadMode, match=r"^invalid syntax$"):
        modes.parse(text)

"""The ground floor: JSON without `json`, moments without `datetime`, ids, and the door to other programs."""

import datetime
import json
import os
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import ids, jsontext, process, timestamps
from service.errors import InvalidParameter, SystemFailure
from service.kernel.signals import signal_number
from tests.house.source import ROOT

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_VALUES)
def test_json_reads_what_json_writes(value: object) -> None:
    assert jsontext.loads(json.dumps(value)) == value


@given(_VALUES)
def test_json_writes_what_json_reads(value: object) -> None:
    assert json.loads(jsontext.dumps(value)) == value


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", '{"a" 1}', '{"a":1} x', "nul", '"', "NaN", "[1 2]", "\x00"])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        jsontext.loads(text)


def test_json_keeps_characters_and_writes_no_blanks() -> None:
    assert jsontext.dumps({"é": ["<&>", 1.5, None]}) == '{"é":["<&>",1.5,null]}'
    assert jsontext.dump_bytes("\udcff") == b'"?"'


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_a_moment_survives_being_written(moment: int) -> None:
    assert timestamps.nanoseconds(timestamps.rfc3339(moment)) == moment


@given(st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(2199, 1, 1), timezones=st.timezones()))
def test_moments_with_an_offset(moment: datetime.datetime) -> None:
    if (offset := moment.utcoffset()) is None or offset.total_seconds() % 60:
        return  # RFC 3339 knows no seconds in an offset
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert timestamps.nanoseconds(moment.isoformat()) == since // datetime.timedelta(microseconds=1) * 1000


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:0xZ"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        timestamps.nanoseconds(text)


def test_ids() -> None:
    drawn = {ids.new_id() for _ in range(500)}
    assert len(drawn) == 500
    assert all(len(one) == 64 and ids.is_hex(one) and not ids.short(one).isdigit() for one in drawn)
    assert ids.short("sha256:" + "ab" * 32) == "ab" * 6
    assert not ids.is_hex("")
    assert not ids.is_hex("xyz")


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGKILL", 9), ("kill", 9), ("15", 15), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("winch", 28)],
)
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGNOPE", "RTMIN+40", "-9"])
def test_signals_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid signal"):
        signal_number(text)


def test_a_program_s_streams_and_code() -> None:
    fed = b"x" * 300_000  # more than pipes hold, both ways at once
    done = process.run(["/bin/sh", "-c", "cat; echo said >&2; exit 3"], environment={}, input_bytes=fed)
    assert (done.code, done.stdout, done.stderr) == (3, fed, b"said\n")
    with pytest.raises(SystemFailure, match=r"^sh: said$"):
        done.check()


def test_a_program_gets_what_is_said_and_nothing_else() -> None:
    read, write = os.pipe()
    try:
        os.set_inheritable(read, True)  # even then: only what is named
        done = process.run(["/bin/sh", "-c", "env; ls /proc/self/fd"], environment={"A": "1"}, descriptors=[(write, 7)])
    finally:
        os.close(read)
        os.close(write)
    lines = done.stdout.decode().split()
    assert "A=1" in lines
    assert "7" in lines
    assert not [line for line in lines if line.startswith(("HOME=", "PYTEST"))]


@pytest.mark.parametrize("crowd", [0, 190, 400])
def test_descriptors_are_not_mixed_up_however_many_are_open(crowd: int) -> None:
    """Many containers at once, or many published ports, make numbers of sources and targets meet."""
    held = [os.memfd_create("crowd") for _ in range(crowd)]
    sources = [os.memfd_create(f"source {number}") for number in range(250)]
    try:
        for number, fd in enumerate(sources):
            os.write(fd, f"{number} ".encode())
        pairs = list(zip(sources, reversed(range(3, 3 + len(sources))), strict=True))
        targets = " ".join(f"/proc/self/fd/{theirs}" for _, theirs in pairs)
        done = process.run(
            ["/bin/sh", "-c", f"cat {targets}; ls /proc/self/fd | wc -l"], environment={}, descriptors=pairs
        )
        *said, opened = done.stdout.decode().split()
        assert said == [str(number) for number in range(250)]
        assert int(opened) <= 3 + len(sources) + 1  # the directory that ls reads
    finally:
        for fd in (*held, *sources):
            os.close(fd)


def test_a_program_s_signals_are_the_default_ones() -> None:
    done = process.run(["/bin/sh", "-c", "grep SigIgn /proc/self/status"], environment={"PATH": "/usr/bin:/bin"})
    assert int(done.stdout.split()[1], 16) & (1 << 12 | 1 << 24) == 0, "an ignored SIGPIPE or SIGXFSZ was inherited"


def test_a_program_that_feeds_on_nothing_does_not_block_us() -> None:
    begun = time.monotonic()
    done = process.run(["/bin/true"], environment={}, input_bytes=b"y" * 1_000_000)
    assert done.code == 0
    assert time.monotonic() - begun < 60


ALLOWED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from service import process
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
process.allow_descriptors()
for _ in range(2):
    print(process.run(["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"], environment={}).stdout.split())
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_a_raised_limit_of_descriptors_is_not_passed_on() -> None:
    """Containers would have it, too."""
    python = [sys.executable, "-I", "-S", "-c", ALLOWED, ROOT]
    said = process.run(python, environment={}).check().stdout.decode().splitlines()
    assert said == ["[b'200', b'300']"] * 2 + ["(300, 300)"]

"""A container's log."""

from compat_api.declaration import Flag, Text, get
from compat_api.reply import Stream
from compat_api.versions import MULTIPLEXED, RAW
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.engine.engine import Engine
    from service.runtime.log_file import Message

_INT64 = 1 << 63


@get("/containers/{id}/logs")
async def container_logs(
    engine: "Engine",
    id: str,
    follow: bool = Flag(),
    stdout: bool = Flag(),
    stderr: bool = Flag(),
    since: str = Text(),
    until: str = Text(),
    timestamps: bool = Flag(),
    tail: str = Text("all"),
    details: bool = Flag(),
) -> "Stream":
    """Get container logs (ContainerLogs)."""
    from service.engine import log_config, logs
    from service.store import containers

    if not stdout and not stderr:
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    since_ns, until_ns = moment(since), moment(until)
    container = containers.find(engine.store, id)
    logs.check_readable(container)
    batches = logs.messages(
        engine, container, follow=follow, tail=last_lines(tail), since_ns=since_ns, until_ns=until_ns
    )
    # the status goes out from here on; nothing can be refused any more
    wanted = {stream for stream, asked in ((1, stdout), (2, stderr)) if asked}
    tty = container["record"]["Config"]["Tty"]
    prefix = spelled(log_config.attributes(container["record"])) if details else b""
    return Stream(_spelled(batches, wanted, tty, timestamps, prefix), RAW if tty else MULTIPLEXED)


async def _spelled(
    batches: "AsyncIterator[list[Message]]", wanted: set[int], tty: bool, timestamps: bool, prefix: bytes
) -> "AsyncIterator[bytes]":
    from compat_api.streams.multiplex import frame

    try:
        async for batch in batches:
            spelled = []
            for stream, stamp, text in batch:
                if stream in wanted:
                    line = b"%b%b%b" % (utc(stamp) if timestamps else b"", prefix, text)
                    spelled.append(line if tty else frame(stream, line))
            if spelled:
                yield b"".join(spelled)
    finally:
        await batches.aclose()  # type: ignore[attr-defined]  # an async generator; the protocol does not say so


def last_lines(text: str) -> "int | None":
    """How many of the last messages are wanted; None for all. What is no number means all, as for dockerd."""
    digits = text.removeprefix("+")
    return int(digits) if digits.isascii() and digits.isdigit() else None


def moment(text: str) -> int:
    """Nanoseconds since 1970 of `seconds[.fraction]`; 0 when blank. Raises InvalidParameter."""
    if not text:
        return 0
    seconds, dot, fraction = text.partition(".")
    for digits in (seconds, fraction) if dot else (seconds,):
        if not digits.removeprefix("-").isdigit() or not digits.isascii():
            raise InvalidParameter(f'strconv.ParseInt: parsing "{digits}": invalid syntax')
        if not -_INT64 <= int(digits) < _INT64:
            raise InvalidParameter(f'strconv.ParseInt: parsing "{digits}": value out of range')
    return int(seconds) * 1_000_000_000 + int((fraction + "000000000")[:9])


def utc(stamp: bytes) -> bytes:
    """conmon's moment as Docker shows it before a line: UTC, always nine digits."""
    if stamp[29:] == b"+00:00":
        return stamp[:29] + b"Z "
    from service.timestamps import nanoseconds, rfc3339

    text = rfc3339(nanoseconds(stamp.decode("ascii")))
    whole, _, fraction = text[:-1].partition(".")
    return f"{whole}.{fraction:<09}Z ".encode()


def spelled(attributes: dict[str, str]) -> bytes:
    """`details`: the attributes, sorted and escaped as in a query, then a blank."""
    from urllib.parse import quote_plus

    pairs = [f"{quote_plus(name)}={quote_plus(value)}" for name, value in sorted(attributes.items())]
    return ",".join(pairs).encode() + b" "

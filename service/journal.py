"""What the service says about itself: one line each on stderr, with the journal's priority where the journal listens.

What a monitor has started (exit hook, keeper) finds /dev/null there, and tells the system's log instead (syslog(3)).

Credentials, environment values and request bodies never belong here.
"""

import os

_PRIORITIES = {"error": 3, "warning": 4, "info": 6, "debug": 7}  # syslog's numbers (sd-daemon(3))
_prefixed = "JOURNAL_STREAM" in os.environ
_threshold = _PRIORITIES["info"]
_SYSLOG = "/dev/log"  # the journal listens there too
_DAEMON = 3 << 3  # the facility (RFC 5424)


_given = ""  # the level that the environment names


def set_level(given: str = "", laid_down: str = "") -> None:
    """The least important level that is still written: error, warning, info or debug.

    `given`: what counts whatever is laid down later on, or earlier; neither: info.
    """
    global _threshold, _given  # noqa: PLW0603 - one process, one journal
    _given = given or _given
    _threshold = _PRIORITIES.get(_given or laid_down, _PRIORITIES["info"])


def write(level: str, text: str) -> None:
    """One entry. A line break in `text` would begin an entry of its own, so it is written as a blank."""
    priority = _PRIORITIES[level]
    if priority > _threshold:
        return
    line = text.replace("\n", " ")
    if not _leads_nowhere(2):
        os.write(
            2, (f"<{priority}>{line}\n" if _prefixed else f"moorage: {level}: {line}\n").encode("utf-8", "replace")
        )
    elif os.path.exists(_SYSLOG):
        import _socket

        wire = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK)
        try:
            wire.sendto(f"<{_DAEMON | priority}>moorage[{os.getpid()}]: {line}".encode("utf-8", "replace"), _SYSLOG)
        finally:
            wire.close()


def _leads_nowhere(fd: int) -> bool:
    return os.fstat(fd).st_rdev == os.stat("/dev/null").st_rdev


def failure(who: str, error: BaseException) -> None:
    """An error that nobody is there to be told of, with the place where it arose."""
    trace, where = error.__traceback__, ""
    while trace is not None:  # the innermost place
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    try:
        write("error", f"{who}: {type(error).__name__}: {error} ({where})")
    except OSError:
        return  # nobody listens any more

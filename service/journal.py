"""What the service says about itself: one line each on stderr, with the journal's priority where the journal listens.

Credentials, environment values and request bodies never belong here.
"""

import os

_PRIORITIES = {"error": 3, "warning": 4, "info": 6, "debug": 7}  # syslog's numbers (sd-daemon(3))
_prefixed = "JOURNAL_STREAM" in os.environ
_threshold = _PRIORITIES["info"]


def set_level(level: str) -> None:
    """The least important level that is still written: error, warning, info or debug."""
    global _threshold  # noqa: PLW0603 - one process, one journal
    _threshold = _PRIORITIES.get(level, _PRIORITIES["info"])


def write(level: str, text: str) -> None:
    """One entry. A line break in `text` would begin an entry of its own, so it is written as a blank."""
    priority = _PRIORITIES[level]
    if priority <= _threshold:
        line = text.replace("\n", " ")
        os.write(
            2, (f"<{priority}>{line}\n" if _prefixed else f"moorage: {level}: {line}\n").encode("utf-8", "replace")
        )

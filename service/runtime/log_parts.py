"""A container's log on disk: the file that conmon writes, and the earlier parts that rotation has set aside.

    ctr.log              conmon writes here (format k8s-file, see `log_file`)
    ctr.log.000007       an earlier part; while it is the same file as ctr.log, conmon still writes to it
    ctr.log.000006.gz    an older one, compressed
    ctr.log.tmp          the next ctr.log, still empty: conmon opens this name and renames it to ctr.log

Numbers only grow and a part keeps its name, so a reader that stands in one knows what comes next, however many
rotations happened meanwhile. (dockerd renames all parts each time. Nobody is told these names: LogPath is empty.)
"""

import os

NEXT = ".tmp"  # conmon's own name for the file it is about to write (its ctr_logging.c: reopen_k8s_file)
PACKED = ".gz"


class Limits:
    """How much of a log is kept: `max_files` files (two or more) of about `max_size` bytes each.

    `compress`: the earlier ones are compressed.
    """

    __slots__ = ("compress", "max_files", "max_size")

    def __init__(self, max_size: int, max_files: int, compress: bool) -> None:
        self.max_size, self.max_files, self.compress = max_size, max_files, compress


class Part:
    """One earlier part: its number, and whether it is compressed."""

    __slots__ = ("number", "packed", "path")

    def __init__(self, log: str, number: int, packed: bool) -> None:
        self.number, self.packed = number, packed
        self.path = f"{part_path(log, number)}{PACKED if packed else ''}"


def part_path(log: str, number: int) -> str:
    """The name of a part that is not compressed."""
    return f"{log}.{number:06d}"


def listed(log: str) -> "list[Part]":
    """The earlier parts, oldest first. A part that is just being compressed is listed once, as it was."""
    prefix = os.path.basename(log) + "."
    found: dict[int, bool] = {}
    try:
        names = os.listdir(os.path.dirname(log))
    except FileNotFoundError:
        return []
    for name in names:
        if name.startswith(prefix):
            digits = name[len(prefix) :].removesuffix(PACKED)
            if digits.isdigit():
                number, packed = int(digits), name.endswith(PACKED)
                found[number] = packed and found.get(number, True)
    return [Part(log, number, packed) for number, packed in sorted(found.items())]


def identity(status: os.stat_result) -> tuple[int, int]:
    """Which file a name or a descriptor means."""
    return status.st_dev, status.st_ino

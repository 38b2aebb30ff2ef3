"""The program that unpacks and packs layers (`layer_program.py`), started once for a process, forked for every layer.

Called from threads.
"""

import os

from service.forking import Forker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings

_program = Forker(f"{os.path.dirname(__file__)}/layer_program.py", does="unpacks and packs layers")


def unpack(settings: "Settings", folder: str, source: int, answer: int) -> None:
    """Have the tar that `source` gives unpacked into `folder`; what came of it is written to `answer`.

    Both descriptors stay the caller's. The work is over when `answer` has no writer any more. Raises SystemFailure.
    """
    _ask(settings, b"unpack", folder, source, answer)


def pack(settings: "Settings", folder: str, sink: int, answer: int, latest: "int | None" = None) -> None:
    """Have `folder`, in overlayfs' form, written to `sink` as a layer's tar; as `unpack`. `latest`: seconds since 1970,
    no file is told to be younger."""
    _ask(settings, b"pack" if latest is None else b"pack@%d" % latest, folder, sink, answer)


def settle(settings: "Settings", folder: str, sink: int, answer: int) -> None:
    """As `pack`, and make `folder` what that tar would be unpacked to. Nobody else may write to it."""
    _ask(settings, b"settle", folder, sink, answer)


def answer_of(answer: int) -> bytes:
    """What the program says, once it has ended: all that comes from our end of the pipe, which is closed then."""
    said = b""
    try:
        while part := os.read(answer, 65536):
            said += part
    finally:
        os.close(answer)
    return said


def _ask(settings: "Settings", verb: bytes, folder: str, tar: int, answer: int) -> None:
    _program.ask(settings, verb + b"\0" + os.fsencode(folder), (tar, answer))


def end() -> None:
    """End the program, if it was started: for who uses layers within a process that goes on."""
    _program.end()

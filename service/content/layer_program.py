"""What unpacks and packs layers: a program of its own, run by `layer_programs` as `python -I -S layer_program.py`.

It forks for every layer. Standard input is a socket; a message is what to do, a zero byte and a directory, and brings
two descriptors: one for the tar, and one for the answer, by whose end the asker sees that the process has ended.
"""

import _signal  # type: ignore[import-not-found]  # typeshed knows `signal` alone, which imports `enum`
import os
import sys

if __name__ == "__main__":  # run by path, isolated: the project is not on sys.path
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from service import forking, jsontext
from service.content import pack_layer, unpack

_LONGEST = 8192  # bytes of a message: PATH_MAX is 4096


def do(verb: bytes, directory: str, tar: int, answer: int) -> int:
    """Do one thing, in a process of its own, with the descriptors in their places; the exit code."""
    os.dup2(answer, 2)
    if verb == b"unpack":
        os.dup2(tar, 0)
        os.dup2(answer, 1)
        _close(tar, answer)
        unpack.unpack(directory)
    else:
        os.dup2(tar, 1)
        _close(tar, answer)
        named, _, latest = verb.partition(b"@")
        size = pack_layer.pack(directory, settles=named == b"settle", latest=int(latest) if latest else None)
        os.write(2, jsontext.dump_bytes({"size": size}))
    return 0


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def main() -> None:
    """Do what is asked for until nobody is there to ask any more."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # nobody waits for them: their answer says it all
    while True:
        message, passed = forking.received(_LONGEST, 2)
        if not message:
            return
        tar, answer = passed
        if os.fork():
            _close(tar, answer)
            continue
        verb, _, directory = message.partition(b"\0")
        forking.finish(lambda: do(verb, os.fsdecode(directory), tar, answer))  # noqa: B023 - called at once


if __name__ == "__main__":
    main()

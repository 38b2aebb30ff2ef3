"""The keys that leave a terminal session and let the process run on (API: `detachKeys`). Pure: bytes in, bytes out.

Only sessions with a terminal have them: without one every byte is the process's.
"""

from service.errors import InvalidParameter

DEFAULT = b"\x10\x11"  # ctrl-p, ctrl-q

# "ctrl-" and one of these means the byte of the same place, counted from 0
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


def parse(text: str, purpose: str = "detach") -> bytes:
    """The bytes that a list such as `ctrl-p,ctrl-q` or `ctrl-x,x` or `DEL` means; the default when it is blank.

    Raises InvalidParameter in dockerd's words; `purpose` is `detach` for attach, `escape` for exec.
    """
    if not text:
        return DEFAULT
    keys = bytearray()
    for key in text.split(","):
        if len(key.encode()) == 1:
            keys += key.encode()
        elif key == "DEL":
            keys.append(127)
        elif key[:5] == "ctrl-" and len(key) == 6 and key[5] in _CONTROL:
            keys.append(_CONTROL.index(key[5]))
        else:
            raise InvalidParameter(f"Invalid {purpose} keys ({text}) provided")
    return bytes(keys)


class DetachKeys:
    """Looks for the sequence in what a client types, across any split into pieces."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = bytearray()  # the beginning of a sequence, until it is clear that it is none

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """(what goes on to the process, whether the sequence is complete). Bytes after a complete one are dropped."""
        passed = bytearray()
        for byte in typed:
            self._held.append(byte)
            while not self._keys.startswith(self._held):
                passed.append(self._held.pop(0))
            if self._held == self._keys:
                self._held.clear()
                return bytes(passed), True
        return bytes(passed), False

    def rest(self) -> bytes:
        """What is still held back when the client stops typing."""
        held = bytes(self._held)
        self._held.clear()
        return held

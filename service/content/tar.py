"""Reading tar: ustar, pax, GNU long names, GNU and pax sparse files, base-256 numbers, old V7. Touches no files.

Why not `tarfile`: it costs several times as much per member, knows nothing of bounds, and the program that unpacks
layers must be lean. Specifications: POSIX.1-2001 pax; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
"""

import os

BLOCK = 512
PIECE = 1 << 20
LARGEST_HEADER = 8 << 20  # bytes of pax records or of a long name: more is an attack, not a name
ZEROS = bytes(BLOCK)
_LARGEST_SIZE = (1 << 63) - 1
_LARGEST_ID = (1 << 32) - 2  # of a user, a group, a device: all ones means "none" to the kernel


class BadArchive(Exception):  # noqa: N818 - it says what is bad
    """The bytes are not a tar that we can unpack; the message says why."""


class Entry:
    """One member as its headers describe it, pax records applied."""

    __slots__ = (
        "gid", "kind", "link", "major", "minor", "mode", "mtime_ns", "name", "real_size", "size", "sparse", "uid",
        "xattrs",
    )  # fmt: skip

    def __init__(self) -> None:
        self.name = self.link = ""
        self.kind = "0"
        self.mode = self.uid = self.gid = self.size = self.real_size = self.mtime_ns = self.major = self.minor = 0
        self.xattrs: dict[str, bytes] = {}
        self.sparse: list[tuple[int, int]] | None = None  # (offset, length) of the parts that hold data


class Source:
    """Exact reads from a descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd, self.piece, self.at = fd, b"", 0

    def more(self) -> bytes:
        """The next piece of the input, b"" at its end."""
        return os.read(self.fd, PIECE)

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes. Raises BadArchive when the input ends before."""
        end = self.at + count
        if end <= len(self.piece):
            data = self.piece[self.at : end]
            self.at = end
            return data
        parts = [self.piece[self.at :]]
        missing = count - len(parts[0])
        while missing:
            self.piece = self.more()
            if not self.piece:
                self.at = 0
                raise BadArchive("unexpected EOF")
            part = self.piece[:missing]
            self.at = len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)

    def at_end(self) -> bool:
        """Whether nothing is left."""
        if self.at < len(self.piece):
            return False
        self.piece, self.at = self.more(), 0
        return not self.piece

    def copy(self, count: int, target: int) -> None:
        """Write the next `count` bytes to the descriptor `target`."""
        while count:
            if self.at == len(self.piece):
                self.piece, self.at = self.more(), 0
                if not self.piece:
                    raise BadArchive("unexpected EOF")
            view = memoryview(self.piece)[self.at : self.at + count]
            self.at += len(view)
            count -= len(view)
            while view:
                view = view[os.write(target, view) :]

    def write(self, entry: Entry, target: int) -> None:
        """Write a member's data to the empty file `target`, holes as holes."""
        if entry.sparse is None:
            self.copy(entry.size, target)
            return
        end = 0
        if sum(length for _, length in entry.sparse) > entry.size:
            raise BadArchive("archive/tar: invalid tar header")
        for offset, length in entry.sparse:
            if offset < end or length < 0 or offset + length > entry.real_size:
                raise BadArchive("archive/tar: invalid tar header")
            end = offset + length
            os.lseek(target, offset, os.SEEK_SET)
            self.copy(length, target)
        self.skip(entry.size - sum(length for _, length in entry.sparse))
        os.ftruncate(target, entry.real_size)

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        while count:
            step = min(count, PIECE)
            self.exactly(step)
            count -= step

    def pad(self, size: int) -> None:
        """Pass over what fills up the last block of `size` bytes. The archive may end there: the docker CLI sends a
        Dockerfile from outside its context so."""
        left = -size % BLOCK
        while left and not self.at_end():
            step = min(left, len(self.piece) - self.at)
            self.at += step
            left -= step

    def drain(self) -> None:
        """Read to the end: the sender hashes the padding too, and must not meet a closed pipe."""
        while self.more():
            pass


def number(field: bytes) -> int:
    """A numeric field: octal text, or base 256 when the first bit is set."""
    if field[0] & 0x80:
        if field[0] == 0xFF:
            return int.from_bytes(field, "big", signed=True)
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    text = field.partition(b"\0")[0].strip(b" ")
    if not text:
        return 0
    try:
        return int(text, 8)
    except ValueError:
        raise BadArchive("archive/tar: invalid tar header") from None


def text(field: bytes) -> str:
    """A text field, up to its NUL."""
    return os.fsdecode(field.partition(b"\0")[0])


def pax_records(data: bytes) -> "dict[str, bytes]":
    """The records `length key=value\\n` of a pax header (POSIX.1-2001, pax Interchange Format)."""
    records: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        blank = data.find(b" ", at, at + 20)
        length = data[at:blank]
        if blank < 0 or not length.isdigit():
            raise BadArchive("archive/tar: invalid tar header")
        end = at + int(length)
        record = data[blank + 1 : end - 1]
        key, equals, value = record.partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise BadArchive("archive/tar: invalid tar header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):  # sparse 0.0 repeats its keys
            records["GNU.sparse.map"] = records.get("GNU.sparse.map", b"") + value + b","
        else:
            records[key.decode("utf-8", "surrogateescape")] = value
        at = end
    return records


def nanoseconds(value: bytes) -> int:
    """Seconds with an optional fraction, as pax writes times."""
    whole, _, fraction = value.partition(b".")
    sign = -1 if whole.startswith(b"-") else 1
    return int(whole or b"0") * 1_000_000_000 + sign * int((fraction + b"000000000")[:9])


class Reader:
    """The members of a tar, one after the other."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def next(self) -> "Entry | None":
        """The next member's description; its data (`size` bytes, then padding) come next from the source."""
        records: dict[str, bytes] = {}
        long_name = long_link = None
        while True:
            if self.source.at_end():
                return None
            header = self.source.exactly(BLOCK)
            if header == ZEROS:
                if not self.source.at_end() and self.source.exactly(BLOCK) != ZEROS:
                    raise BadArchive("archive/tar: invalid tar header")
                return None
            self._check(header)
            kind = chr(header[156])
            if kind not in "xgLK":
                break
            size = number(header[124:136])
            if not 0 <= size <= LARGEST_HEADER:
                raise BadArchive("archive/tar: header field too long")
            data = self.source.exactly(size + -size % BLOCK)[:size]
            if kind == "x":
                records = pax_records(data)
            elif kind == "L":
                long_name = text(data)
            elif kind == "K":
                long_link = text(data)
        entry = self._entry(header, kind, long_name, long_link)
        if records:
            self._apply(entry, records)
        if entry.kind in "123456":  # links, devices, directories and FIFOs have no data, whatever their size says
            entry.size = entry.real_size = 0
        self._check_entry(entry)
        return entry

    @staticmethod
    def _check_entry(entry: Entry) -> None:
        """Refuse what the kernel has no form for: pax records and base 256 can spell anything."""
        numbers = (entry.uid, entry.gid, entry.major, entry.minor)
        texts = (entry.name, entry.link, *entry.xattrs)
        if (
            not all(0 <= size <= _LARGEST_SIZE for size in (entry.size, entry.real_size))
            or not all(0 <= number <= _LARGEST_ID for number in numbers)
            or any("\0" in text for text in texts)
        ):
            raise BadArchive("archive/tar: invalid tar header")

    @staticmethod
    def _check(header: bytes) -> None:
        given = number(header[148:156])
        rest = header[:148] + header[156:]
        total = sum(rest) + 8 * 32
        if given != total and given != total - 256 * sum(1 for byte in rest if byte > 127):  # some summed signed chars
            raise BadArchive("archive/tar: invalid tar header")

    def _entry(self, header: bytes, kind: str, long_name: "str | None", long_link: "str | None") -> Entry:
        entry = Entry()
        entry.kind = "0" if kind == "\0" else kind
        entry.name = text(header[0:100])
        entry.mode = number(header[100:108]) & 0o7777
        entry.uid, entry.gid = number(header[108:116]), number(header[116:124])
        entry.size = entry.real_size = number(header[124:136])
        entry.mtime_ns = within_reach(number(header[136:148]) * 1_000_000_000)
        entry.link = text(header[157:257])
        magic = header[257:265]
        if magic[:5] == b"ustar":
            entry.major, entry.minor = number(header[329:337]), number(header[337:345])
            if magic[:6] == b"ustar\0":
                prefix = text(header[345:500])
                if prefix:
                    entry.name = f"{prefix}/{entry.name}"
        if long_name is not None:
            entry.name = long_name
        if long_link is not None:
            entry.link = long_link
        if entry.kind == "S":
            self._gnu_sparse(entry, header)
        if entry.kind == "0" and entry.name.endswith("/"):  # V7 had no mark for directories but the slash
            entry.kind = "5"
        return entry

    def _gnu_sparse(self, entry: Entry, header: bytes) -> None:
        entry.kind, entry.sparse = "0", []
        entry.real_size = number(header[483:495])
        fields, count, more = header[386:482], 4, header[482]
        while True:
            for index in range(count):
                pair = fields[index * 24 : index * 24 + 24]
                if not pair[0]:
                    break
                entry.sparse.append((number(pair[:12]), number(pair[12:])))
            if not more:
                return
            fields = self.source.exactly(BLOCK)
            count, more = 21, fields[504]

    def _apply(self, entry: Entry, records: "dict[str, bytes]") -> None:
        try:
            for key, value in records.items():
                if key == "path":
                    entry.name = os.fsdecode(value)
                    if entry.kind == "0" and entry.name.endswith("/"):
                        entry.kind = "5"
                elif key == "linkpath":
                    entry.link = os.fsdecode(value)
                elif key == "size":
                    entry.size = int(value)
                    if entry.sparse is None:
                        entry.real_size = entry.size
                elif key == "uid":
                    entry.uid = int(value)
                elif key == "gid":
                    entry.gid = int(value)
                elif key == "mtime":
                    entry.mtime_ns = within_reach(nanoseconds(value))
                elif key.startswith("SCHILY.xattr."):
                    entry.xattrs[key[13:]] = value
            if "GNU.sparse.map" in records or "GNU.sparse.major" in records or "GNU.sparse.size" in records:
                self._pax_sparse(entry, records)
        except ValueError:
            raise BadArchive("archive/tar: invalid tar header") from None

    def _pax_sparse(self, entry: Entry, records: "dict[str, bytes]") -> None:
        if "GNU.sparse.name" in records:
            entry.name = os.fsdecode(records["GNU.sparse.name"])
        real = records.get("GNU.sparse.realsize") or records.get("GNU.sparse.size")
        if real is None:
            return
        entry.real_size = int(real)
        if records.get("GNU.sparse.major") == b"1":
            numbers = self._sparse_map(entry)
        else:
            numbers = [int(field) for field in records.get("GNU.sparse.map", b"").split(b",") if field]
        entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))

    def _sparse_map(self, entry: Entry) -> "list[int]":
        """Sparse 1.0: the map stands before the data, decimal lines padded to a block."""
        lines: list[bytes] = []
        rest, wanted = b"", 1
        while len(lines) < wanted:
            if entry.size < BLOCK or len(lines) > 1 << 20:
                raise BadArchive("archive/tar: invalid tar header")
            rest += self.source.exactly(BLOCK)
            entry.size -= BLOCK
            *whole, rest = rest.split(b"\n")
            lines += whole
            if lines:
                wanted = 1 + 2 * int(lines[0])
        return [int(line) for line in lines[1:wanted]]


def clean(name: str) -> str:
    """A member's name from the root of the layer, without `.`, `..` and empty parts (`..` stops at the root)."""
    if "/" not in name and name not in ("", ".", ".."):
        return name
    if "\0" in name:
        raise BadArchive("archive/tar: invalid tar header")
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def within_reach(moment_ns: int) -> int:
    """A time as dockerd sets it: before 1970, and beyond what 63 bits of nanoseconds hold, it becomes 1970."""
    return moment_ns if 0 <= moment_ns < 1 << 63 else 0


def header(name: str, size: int, mode: int = 0o644, mtime: int = 0, kind: str = "0") -> bytes:
    """The header block of a member whose name is at most 100 bytes of ASCII (ustar), owned by root."""
    block = bytearray(BLOCK)
    block[0 : len(name)] = name.encode("ascii")
    for at, width, value in ((100, 8, mode), (108, 8, 0), (116, 8, 0), (136, 12, mtime)):
        block[at : at + width] = b"%0*o\0" % (width - 1, value)
    if size < 8**11:
        block[124:136] = b"%011o\0" % size
    else:
        block[124:136] = (1 << 95 | size).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[156:157] = kind.encode()
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)

"""Writing tar as dockerd writes it: ustar where everything fits, and pax records for what does not. Touches no files.

Names and links are bytes, as the file system has them; a directory's name ends with a slash. Times are whole seconds,
owners numbers without names (dockerd's archives have no others, so that equal trees give equal bytes).
Specification: POSIX.1-2001 pax.
"""

from service.content.tar import BLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

END = bytes(2 * BLOCK)
FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_NAME, _PREFIX = 100, 155  # bytes that ustar has for a name's end and its beginning
_LARGEST_ID = 8**7 - 1
_LARGEST = 8**11 - 1


def padding(size: int) -> bytes:
    """What follows `size` bytes of data up to the next block."""
    return bytes(-size % BLOCK)


def member(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    mtime: int,
    *,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    attributes: "Mapping[str, bytes] | None" = None,
) -> bytes:
    """The header blocks of one member; its data, padded, follow them. `mtime` in seconds since 1970."""
    records: list[tuple[bytes, bytes]] = []
    prefix, rest = _split(name)
    if not rest:
        records.append((b"path", name))
        rest = _plain(name)
    if len(link) > _NAME or not link.isascii():
        records.append((b"linkpath", link))
        link = _plain(link)
    for key, value in ((b"uid", uid), (b"gid", gid)):
        if value > _LARGEST_ID:
            records.append((key, b"%d" % value))
    if size > _LARGEST:
        records.append((b"size", b"%d" % size))
    if not 0 <= mtime <= _LARGEST:
        records.append((b"mtime", b"%d" % mtime))
    for attribute, content in (attributes or {}).items():
        records.append((b"SCHILY.xattr." + attribute.encode("utf-8", "surrogateescape"), content))
    block = _block(prefix, rest, kind, mode, _within(uid, _LARGEST_ID), _within(gid, _LARGEST_ID), mtime, size, link)
    if kind in (CHARACTER, BLOCK_DEVICE):
        block[329:345] = b"%07o\0%07o\0" % device
    block = _summed(block)
    if not records:
        return bytes(block)
    data = b"".join(sorted(_record(key, value) for key, value in records))
    folder, _, last = name.rstrip(b"/").rpartition(b"/")
    own = _plain((folder + b"/" if folder else b"") + b"PaxHeaders.0/" + last).rstrip(b"/")
    return bytes(_summed(_block(b"", own, b"x", 0, 0, 0, 0, len(data), b""))) + data + padding(len(data)) + bytes(block)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """`name` as ustar's prefix and name; two empty ones where it does not fit."""
    if not name.isascii():
        return b"", b""
    if len(name) <= _NAME:
        return b"", name
    cut = name.rfind(b"/", 0, min(len(name.rstrip(b"/")), _PREFIX + 1))
    if cut <= 0 or not 0 < len(name) - cut - 1 <= _NAME:
        return b"", b""
    return name[:cut], name[cut + 1 :]


def _plain(name: bytes) -> bytes:
    """What stands in the header for a name whose whole is in a record. A last slash would mean a directory."""
    short = bytes(sign for sign in name if sign < 128)[:_NAME]
    return short if name.endswith(b"/") else short.rstrip(b"/")


def _within(number: int, largest: int) -> int:
    return number if 0 <= number <= largest else 0


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3  # the blank, the equals sign, the line's end
    total = length + len(b"%d" % length)
    total = length + len(b"%d" % total)
    return b"%d %b=%b\n" % (total, key, value)


def _block(
    prefix: bytes, name: bytes, kind: bytes, mode: int, uid: int, gid: int, mtime: int, size: int, link: bytes
) -> bytearray:
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:136] = b"%07o\0%07o\0%07o\0%011o\0" % (mode, uid, gid, _within(size, _LARGEST))
    block[136:148] = b"%011o\0" % _within(mtime, _LARGEST)
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    block[329:345] = b"%07o\0%07o\0" % (0, 0)
    block[345 : 345 + len(prefix)] = prefix
    return block


def _summed(block: bytearray) -> bytearray:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return block

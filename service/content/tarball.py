"""Archives of images: reading what `docker save`, podman, skopeo and OCI tools write.

Two forms, often both in one file:
    docker-archive   manifest.json lists for each image its configuration, layers and names
    OCI layout       index.json (image-spec image-layout.md) leads by manifests to blobs/sha256/…

An archive is read once, as it arrives: a layer is unpacked while it passes, although only the manifest, which may come
last, says what it is good for. So nothing is spooled, and memory holds only the small members. Synchronous.
"""

import os

from service import jsontext
from service.content import blobs, image_config, layers
from service.content.tar import PIECE, BadArchive, Entry, Reader, Source, clean
from service.errors import InvalidParameter, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from service.settings import Settings

SMALL = 1 << 20  # bytes: a member up to this size is kept until the manifest says what it is
KEPT_AT_MOST = 256 << 20  # bytes of such members together
LARGEST_DOCUMENT = 16 << 20  # bytes of a configuration or a manifest
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


class ArchiveLayer:
    """A layer of an archive: unpacked, with its blob stored; or, when `known`, passed over because it is here."""

    __slots__ = ("blob", "blob_size", "diff_id", "media_type", "unpacked")

    def __init__(self, unpacked: "layers.Unpacked | None", diff_id: str, blob: str, blob_size: int, media_type: str):
        self.unpacked, self.diff_id = unpacked, diff_id
        self.blob, self.blob_size, self.media_type = blob, blob_size, media_type


class ArchiveImage:
    """What an archive says of one image. `layers` are names of members, lowest first; `names` as written there."""

    __slots__ = ("config", "layers", "manifest", "names", "parent")

    def __init__(
        self, config: bytes, layers: "list[str]", names: "list[str]", manifest: bytes = b"", parent: str = ""
    ) -> None:
        self.config, self.layers, self.names, self.manifest, self.parent = config, layers, names, manifest, parent


class Archive:
    """An archive as it is read. `close` removes what nobody took."""

    def __init__(
        self,
        settings: "Settings",
        known: "Callable[[str], bool]" = lambda _: False,
        progress: "Callable[[str, int, int], None]" = lambda *_: None,
    ) -> None:
        """`known(digest)`: whether the layer with this diff id or blob digest need not be read.
        `progress(name, current, total)`: bytes of a layer read so far."""
        self.settings, self.known, self.progress = settings, known, progress
        self.small: dict[str, bytes] = {}
        self.kept = 0
        self.links: dict[str, str] = {}
        self.layers: dict[str, ArchiveLayer] = {}
        self.passed: set[str] = set()  # members not read, because `known`
        self.broken: dict[str, str] = {}  # members that looked like layers, and why they are none

    def close(self) -> None:
        """Remove the unpacked layers that were not taken."""
        for layer in self.layers.values():
            if layer.unpacked is not None:
                layer.unpacked.discard()
                layer.unpacked = None

    def read(self, read: "Callable[[int], bytes]") -> None:
        """Read the whole archive, compressed or not. Raises InvalidParameter when it is not a tar."""
        source = _Pieces(layers.decompressed(read))
        reader = Reader(source)
        while True:
            try:
                entry = reader.next()
            except BadArchive as error:
                raise InvalidParameter(f"Error processing tar file(exit status 1): {error}") from None
            if entry is None:
                break
            try:
                self._member(entry, source)
            except BadArchive as error:
                raise InvalidParameter(f"Error processing tar file(exit status 1): {error}") from None
        source.drain()

    def _member(self, entry: Entry, source: "_Pieces") -> None:
        name = clean(entry.name)
        if entry.kind in "12":
            base = os.path.dirname(name) if entry.kind == "2" else ""
            self.links[name] = clean(os.path.join(base, entry.link))
        if entry.kind != "0":
            return
        if entry.sparse is not None:
            raise BadArchive(f"sparse member {name}")
        digest = "sha256:" + os.path.basename(name)
        if entry.size <= SMALL or (name.endswith(".json") and entry.size <= LARGEST_DOCUMENT):
            self.kept += entry.size
            if self.kept > KEPT_AT_MOST:
                raise BadArchive("too many small members")
            self.small[name] = source.exactly(entry.size)
        elif len(digest) == 71 and self.known(digest):
            self.passed.add(name)
            source.skip(entry.size)
        else:
            self._layer(name, entry.size, source)
        source.pad(entry.size)

    def _layer(self, name: str, size: int, source: "_Pieces") -> None:
        part = _Part(source, size, lambda current: self.progress(name, current, size))
        try:
            self.layers[name] = store_layer(self.settings, part.read)
        except (SystemFailure, InvalidParameter) as error:
            self.broken[name] = error.message  # perhaps no layer at all; it matters if a manifest names it
        while part.read(PIECE):
            pass

    def member(self, name: str) -> str:
        """The member that a name in a manifest means: links are followed."""
        name = clean(name)
        for _ in range(10):
            if name not in self.links:
                return name
            name = self.links[name]
        raise InvalidParameter(f"invalid archive: too many links at {name}")

    def document(self, name: str) -> bytes:
        """A small member. Raises InvalidParameter when it is missing."""
        found = self.small.get(self.member(name))
        if found is None:
            raise InvalidParameter(f"open {name}: no such file or directory")
        return found

    def layer(self, name: str) -> ArchiveLayer:
        """A layer by its member name; a small one is unpacked now. Raises as `store_layer`, or InvalidParameter."""
        name = self.member(name)
        found = self.layers.get(name)
        if found is None:
            if name in self.broken:
                raise SystemFailure(f"failed to register layer: {self.broken[name]}")
            content = self.document(name)
            found = self.layers[name] = store_layer(self.settings, _from_bytes(content))
        return found

    def images(self, platform: "Callable[[dict[str, Any]], bool]" = lambda _: True) -> "list[ArchiveImage]":
        """The images it holds: those of `manifest.json`, or, where none of them is of the platform, of the index.

        Raises InvalidParameter, in dockerd's words, when it describes none properly.
        """
        if "manifest.json" in self.small:
            found = list(self._docker_images())
            others = "index.json" in self.small and found
            if not others or any(platform(_document(image.config, "configuration")) for image in found):
                return found
        if "index.json" in self.small:
            index = _document(self.small["index.json"], "index.json")
            return list(self._oci_images(index, [], platform))
        raise InvalidParameter("invalid archive: does not contain a manifest.json")

    def _docker_images(self) -> "Iterator[ArchiveImage]":
        items = _parsed(self.small["manifest.json"], "manifest.json")
        if items is None:
            raise InvalidParameter("invalid manifest, manifest cannot be null (but can be [])")
        if not isinstance(items, list):
            raise InvalidParameter("invalid archive: failed to decode manifest.json")
        for item in items:
            if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
                raise InvalidParameter("invalid archive: failed to decode manifest.json")
            yield ArchiveImage(
                self.document(item["Config"]),
                [str(name) for name in item.get("Layers") or ()],
                [str(name) for name in item.get("RepoTags") or ()],
                parent=str(item.get("Parent") or ""),
            )

    def _oci_images(
        self, index: "dict[str, Any]", names: "list[str]", platform: "Callable[[dict[str, Any]], bool]"
    ) -> "Iterator[ArchiveImage]":
        for descriptor in index.get("manifests") or ():
            annotations = descriptor.get("annotations") or {}
            if annotations.get("vnd.docker.reference.type") == "attestation-manifest":
                continue
            if descriptor.get("platform") and not platform(descriptor["platform"]):
                continue
            name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name")
            here = [name] if name and (":" in name or "/" in name) else names
            member = _blob_name(descriptor.get("digest") or "")
            if self.member(member) not in self.small:
                continue  # an index may name platforms that were not saved
            content = self.document(member)
            if image_config.digest(content) != descriptor["digest"]:
                raise InvalidParameter(f"invalid archive: {member} does not match its digest")
            document = _document(content, member)
            if "manifests" in document:
                yield from self._oci_images(document, here, platform)
                continue
            config_name = _blob_name((document.get("config") or {}).get("digest") or "")
            yield ArchiveImage(
                self.document(config_name),
                [_blob_name(layer.get("digest") or "") for layer in document.get("layers") or ()],
                here,
                manifest=content,
            )


def store_layer(settings: "Settings", read: "Callable[[int], bytes]") -> ArchiveLayer:
    """Unpack a layer and store its blob as it is; one that is not compressed is, once a push needs that (`gzip`).

    Raises SystemFailure when it is damaged; then nothing is left.
    """
    first = b""
    while len(first) < 6 and (more := read(PIECE)):
        first += more
    rest = _Prefixed(first, read)
    kind = layers.compression(first)
    writer = blobs.Writer(settings, hashed=bool(kind))
    try:
        if kind:
            media_type = {"gzip": OCI_LAYER + "+gzip", "zstd": OCI_LAYER + "+zstd"}.get(kind, OCI_LAYER)
            unpacked = layers.unpack(settings, layers.decompressed(_Copied(rest.read, writer).read))
            while more := rest.read(PIECE):  # what follows the compressed stream belongs to the blob, too
                writer.write(more)
        else:
            media_type = DOCKER_LAYER
            unpacked = layers.unpack(settings, _passing(rest.read, writer))
    except BaseException:
        writer.discard()
        raise
    try:
        if kind:
            digest = writer.commit()
        else:
            digest = unpacked.diff_id
            writer.commit_as(digest)
    except BaseException:
        unpacked.discard()
        raise
    return ArchiveLayer(unpacked, unpacked.diff_id, digest, writer.size, media_type)


def gzip(settings: "Settings", digest: str) -> "tuple[str, int]":
    """(digest, size) of the gzip form of a blob, which is stored; the same each time. Raises SystemFailure."""
    from isal import isal_zlib

    # level 1 of isal: 500 MB/s measured, half a percent larger than level 2; wbits 31 is the gzip format
    compressor = isal_zlib.compressobj(1, wbits=31)
    writer = blobs.Writer(settings)
    try:
        with blobs.opened(settings, digest) as file:
            while piece := file.read(PIECE):
                writer.write(compressor.compress(piece))
        writer.write(compressor.flush())
        os.fsync(writer.fd)  # it takes the place of what is on the disk, so that it must be there itself
        return writer.commit(), writer.size
    except BaseException:
        writer.discard()
        raise


def _passing(read: "Callable[[int], bytes]", writer: blobs.Writer) -> "Iterator[bytes]":
    """The pieces themselves, once they were written to a blob."""
    while piece := read(PIECE):
        writer.write(piece)
        yield piece


class _Copied:
    """A reader that writes what is read to a blob, too."""

    def __init__(self, read: "Callable[[int], bytes]", writer: blobs.Writer) -> None:
        self.source, self.writer = read, writer

    def read(self, count: int) -> bytes:
        piece = self.source(count)
        if piece:
            self.writer.write(piece)
        return piece


class _Prefixed:
    """A reader that gives what was read already first."""

    def __init__(self, first: bytes, read: "Callable[[int], bytes]") -> None:
        self.first, self.source = first, read

    def read(self, count: int) -> bytes:
        if self.first:
            piece, self.first = self.first[:count], self.first[count:]
            return piece
        return self.source(count)


class _Pieces(Source):
    """A tar source fed by an iterator instead of a descriptor."""

    def __init__(self, pieces: "Iterator[bytes]") -> None:
        super().__init__(-1)
        self.pieces = pieces

    def more(self) -> bytes:
        return next(self.pieces, b"")

    def some(self, count: int) -> bytes:
        """1 to `count` bytes. Raises BadArchive at the end."""
        if self.at_end():
            raise BadArchive("unexpected EOF")
        data = self.piece[self.at : self.at + count]
        self.at += len(data)
        return data


class _Part:
    """The next `size` bytes of a source, as a reader."""

    def __init__(self, source: _Pieces, size: int, progress: "Callable[[int], None]") -> None:
        self.source, self.left, self.size, self.progress = source, size, size, progress

    def read(self, count: int) -> bytes:
        if not self.left:
            return b""
        data = self.source.some(min(count, self.left))
        self.left -= len(data)
        self.progress(self.size - self.left)
        return data


def _from_bytes(content: bytes) -> "Callable[[int], bytes]":
    import io

    return io.BytesIO(content).read


def _blob_name(digest: str) -> str:
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"


def _parsed(content: bytes, name: str) -> "Any":
    try:
        return jsontext.loads(content)
    except ValueError as error:
        raise InvalidParameter(f"invalid archive: failed to decode {name}: {error}") from None


def _document(content: bytes, name: str) -> "dict[str, Any]":
    document = _parsed(content, name)
    if not isinstance(document, dict):
        raise InvalidParameter(f"invalid archive: failed to decode {name}")
    return document

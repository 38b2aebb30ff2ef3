"""What a registry says an image consists of, believed only as far as it makes sense. Pure.

A manifest's digest says that it is what its author wrote, not that the author meant well: every field that is used is
looked at here first. Sources: OCI image-spec manifest.md, image-index.md; Docker's image manifest V2, schema 2.
"""

from service import jsontext
from service.content import platforms
from service.content.reference import is_digest
from service.content.registry_types import INDEXES, MANIFESTS, OCI_MANIFEST
from service.errors import InvalidParameter, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.content.platforms import Platform
    from service.content.reference import Reference

SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
# What the configuration of an image is called, and what some registries have called it (moby: distribution/registry.go)
_IMAGE_CONFIGS = (
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
    *("application/octet-stream", "application/json", "text/html", ""),
)
_PLUGIN_CONFIG = "application/vnd.docker.plugin.v1+json"
_KNOWN = ("application/vnd.oci.image", "application/vnd.docker", *_IMAGE_CONFIGS[2:])
LARGEST_SIZE = 1 << 62  # bytes of a blob that are believed


class Descriptor:
    """What a manifest says of a blob: `size` in bytes, -1 when it says nothing."""

    __slots__ = ("digest", "media_type", "size")

    def __init__(self, described: "Any", what: str) -> None:
        """Raises InvalidParameter, naming `what`, for what describes no blob."""
        if not isinstance(described, dict):
            raise InvalidParameter(f"invalid manifest: {what} is not an object")
        digest, size, media_type = (described.get(key) for key in ("digest", "size", "mediaType"))
        if not isinstance(digest, str) or not is_digest(digest):
            raise InvalidParameter(f"invalid manifest: could not validate {what} digest {_shown(digest)}")
        if size is None:
            size = -1
        elif isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < LARGEST_SIZE:
            raise InvalidParameter(f"invalid manifest: invalid {what} size")
        if media_type is not None and not isinstance(media_type, str):
            raise InvalidParameter(f"invalid manifest: invalid {what} media type")
        self.digest, self.size, self.media_type = digest, size, media_type or ""


class RemoteManifest:
    """A manifest (`config`, `layers`: lowest first) or an index (`choose`), read. `content` is what was sent."""

    def __init__(self, reference: "Reference | str", digest: str, media_type: str, content: bytes) -> None:
        """Raises InvalidParameter for everything that is not an image's, in dockerd's words where it has some."""
        self.digest, self.content = digest, content
        try:
            document = jsontext.loads(content)
        except ValueError:
            raise InvalidParameter(f"the registry's manifest {digest} is not JSON") from None
        if not isinstance(document, dict):
            raise InvalidParameter(f"the registry's manifest {digest} is not an object")
        stated = document.get("mediaType") or media_type
        if document.get("schemaVersion") == 1 or stated in SCHEMA_1:
            raise InvalidParameter(
                "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. "
                f"Suggest the author of {reference} to upgrade the image to the OCI Format or Docker Image manifest "
                "v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
            )
        self.is_index = stated in INDEXES or (stated not in MANIFESTS and "manifests" in document)
        if not self.is_index and stated not in MANIFESTS and "layers" not in document:
            raise InvalidParameter(f"unsupported manifest media type {_shown(stated)}")
        if self.is_index:
            self._entries = _listed(document, "manifests")
            return
        self.config = Descriptor(document.get("config"), "config")
        if stated == OCI_MANIFEST and not _is_known(self.config.media_type):
            raise InvalidParameter(f"unsupported media type {self.config.media_type}")
        if self.config.media_type not in _IMAGE_CONFIGS:
            kind = "plugin" if self.config.media_type == _PLUGIN_CONFIG else "unknown"
            raise InvalidParameter(f"Encountered remote {_shown(self.config.media_type)}({kind}) when fetching")
        self.layers = [Descriptor(described, "layer") for described in _listed(document, "layers")]
        for layer in self.layers:
            if not _is_known(layer.media_type):
                raise InvalidParameter(f"unsupported media type {layer.media_type}")

    def choose(self, wanted: "Platform") -> str:
        """The digest of the manifest for a platform. Raises NotFound, or InvalidParameter."""
        best, best_rank = "", -1
        for described in self._entries:
            entry = Descriptor(described, "manifest")
            platform, annotations = described.get("platform") or {}, described.get("annotations") or {}
            if not isinstance(platform, dict) or not isinstance(annotations, dict):
                raise InvalidParameter("invalid manifest: a platform or annotations are not an object")
            if annotations.get("vnd.docker.reference.type") == "attestation-manifest":
                continue
            if not all(isinstance(platform.get(key) or "", str) for key in ("os", "architecture", "variant")):
                raise InvalidParameter("invalid manifest: invalid platform")
            rank = platforms.rank(wanted, platform)
            if rank >= 0 and (best_rank < 0 or rank < best_rank):
                best, best_rank = entry.digest, rank
        if not best:
            raise NotFound(f"no matching manifest for {platforms.text(wanted)} in the manifest list entries")
        return best


def _listed(document: "dict[str, Any]", key: str) -> "list[Any]":
    found = document.get(key) or []
    if not isinstance(found, list):
        raise InvalidParameter(f"invalid manifest: {key} is not a list")
    return found


def _is_known(media_type: str) -> bool:
    lower = media_type.lower()
    return any(lower == known or lower.startswith(f"{known}.") for known in _KNOWN)


def _shown(value: object) -> str:
    """A value of somebody else's in quotes, at a length that does no harm to a line."""
    return jsontext.dumps(str(value)[:100])

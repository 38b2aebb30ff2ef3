"""Bodies of the volume operations."""

from __future__ import annotations

from compat_api.schemas.folding import FoldedBody


class VolumeCreateRequest(FoldedBody):
    """API: VolumeCreateOptions."""

    Name: str | None = None
    Driver: str | None = None
    DriverOpts: dict[str, str] | None = None
    Labels: dict[str, str] | None = None

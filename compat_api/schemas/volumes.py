"""Bodies of the volume operations."""

from __future__ import annotations

from pydantic import BaseModel


class VolumeCreateRequest(BaseModel):
    """API: VolumeCreateOptions."""

    Name: str | None = None
    Driver: str | None = None
    DriverOpts: dict[str, str] | None = None
    Labels: dict[str, str] | None = None

"""Bodies of the swarm operations: read as far as dockerd reads them before it says that there is no swarm."""

from __future__ import annotations

from pydantic import ConfigDict

from compat_api.schemas.folding import FoldedBody


class _Spec(FoldedBody):
    model_config = ConfigDict(extra="ignore", strict=True)


class SwarmInitRequest(_Spec):
    """API: SwarmInit's body."""

    ListenAddr: str | None = None


class SwarmJoinRequest(_Spec):
    """API: SwarmJoin's body."""

    ListenAddr: str | None = None


class SwarmUnlockRequest(_Spec):
    """API: SwarmUnlock's body."""

    UnlockKey: str | None = None


class _Named(_Spec):
    Name: str | None = None
    Labels: dict[str, str] | None = None


class SwarmSpec(_Named):
    """API: SwarmSpec."""


class NodeSpec(_Named):
    """API: NodeSpec."""


class ServiceSpec(_Named):
    """API: ServiceSpec."""


class SecretSpec(_Named):
    """API: SecretSpec."""


class ConfigSpec(_Named):
    """API: ConfigSpec."""

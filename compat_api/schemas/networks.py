"""Bodies of the network operations."""

from __future__ import annotations

from compat_api.schemas.containers import EndpointSettings
from compat_api.schemas.folding import FoldedBody


class IPAMConfig(FoldedBody):
    """API: IPAMConfig."""

    Subnet: str | None = None
    IPRange: str | None = None
    Gateway: str | None = None
    AuxiliaryAddresses: dict[str, str] | None = None


class IPAMBody(FoldedBody):
    """API: IPAM."""

    Driver: str | None = None
    Config: list[IPAMConfig] | None = None
    Options: dict[str, str] | None = None


class ConfigReference(FoldedBody):
    """API: ConfigReference."""

    Network: str | None = None


class NetworkCreateRequest(FoldedBody):
    """API: NetworkCreateRequest. CheckDuplicate has no meaning any more: a name is always checked."""

    Name: str | None = None
    CheckDuplicate: bool | None = None
    Driver: str | None = None
    Scope: str | None = None
    Internal: bool | None = None
    Attachable: bool | None = None
    Ingress: bool | None = None
    ConfigOnly: bool | None = None
    ConfigFrom: ConfigReference | None = None
    IPAM: IPAMBody | None = None
    EnableIPv4: bool | None = None
    EnableIPv6: bool | None = None
    Options: dict[str, str] | None = None
    Labels: dict[str, str] | None = None


class NetworkConnectRequest(FoldedBody):
    """API: NetworkConnectRequest."""

    Container: str | None = None
    EndpointConfig: EndpointSettings | None = None


class NetworkDisconnectRequest(FoldedBody):
    """API: NetworkDisconnectRequest."""

    Container: str | None = None
    Force: bool | None = None

"""Bodies of the network operations."""

from __future__ import annotations

from pydantic import BaseModel

from compat_api.schemas.containers import EndpointSettings


class IPAMConfig(BaseModel):
    """API: IPAMConfig."""

    Subnet: str | None = None
    IPRange: str | None = None
    Gateway: str | None = None
    AuxiliaryAddresses: dict[str, str] | None = None


class IPAMBody(BaseModel):
    """API: IPAM."""

    Driver: str | None = None
    Config: list[IPAMConfig] | None = None
    Options: dict[str, str] | None = None


class ConfigReference(BaseModel):
    """API: ConfigReference."""

    Network: str | None = None


class NetworkCreateRequest(BaseModel):
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


class NetworkConnectRequest(BaseModel):
    """API: NetworkConnectRequest."""

    Container: str | None = None
    EndpointConfig: EndpointSettings | None = None


class NetworkDisconnectRequest(BaseModel):
    """API: NetworkDisconnectRequest."""

    Container: str | None = None
    Force: bool | None = None

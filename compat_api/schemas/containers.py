"""Bodies of the container operations. Types are checked here; meaning is checked by the engine, in Docker's words.

Absent and null are kept apart by `exclude_unset`: the engine sees what the client said, and nothing it did not say.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from compat_api.schemas.folding import FoldedBody

# Go's numbers: what does not fit is refused, not cut off
Uint16 = Annotated[int, Field(ge=0, lt=1 << 16)]
Uint64 = Annotated[int, Field(ge=0, lt=1 << 64)]
Int64 = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class _Body(FoldedBody):
    model_config = ConfigDict(extra="ignore", defer_build=False, strict=True)


class HealthcheckBody(_Body):
    """API: HealthConfig. Durations in nanoseconds."""

    Test: list[str] | None = None
    Interval: Int64 | None = None
    Timeout: Int64 | None = None
    StartPeriod: Int64 | None = None
    StartInterval: Int64 | None = None
    Retries: Int64 | None = None


class PortBinding(_Body):
    """API: PortBinding."""

    HostIp: str | None = None
    HostPort: str | None = None


class RestartPolicyBody(_Body):
    """API: RestartPolicy."""

    Name: str | None = None
    MaximumRetryCount: Int64 | None = None


class LogConfigBody(_Body):
    """API: HostConfig.LogConfig."""

    Type: str | None = None
    Config: dict[str, str] | None = None


class Ulimit(_Body):
    """API: Resources.Ulimits."""

    Name: str = ""
    Soft: Int64 = 0
    Hard: Int64 = 0


class DeviceMapping(_Body):
    """API: DeviceMapping."""

    PathOnHost: str = ""
    PathInContainer: str = ""
    CgroupPermissions: str = ""


class DeviceRequest(_Body):
    """API: DeviceRequest."""

    Driver: str | None = None
    Count: Int64 | None = None
    DeviceIDs: list[str] | None = None
    Capabilities: list[list[str]] | None = None
    Options: dict[str, str] | None = None


class WeightDevice(_Body):
    """API: Resources.BlkioWeightDevice."""

    Path: str = ""
    Weight: Uint16 = 0


class ThrottleDevice(_Body):
    """API: ThrottleDevice."""

    Path: str = ""
    Rate: Uint64 = 0


class DriverConfigBody(_Body):
    """API: Mount.VolumeOptions.DriverConfig."""

    Name: str | None = None
    Options: dict[str, str] | None = None


class BindOptionsBody(_Body):
    """API: Mount.BindOptions."""

    Propagation: str | None = None
    NonRecursive: bool | None = None
    CreateMountpoint: bool | None = None
    ReadOnlyNonRecursive: bool | None = None
    ReadOnlyForceRecursive: bool | None = None


class VolumeOptionsBody(_Body):
    """API: Mount.VolumeOptions."""

    NoCopy: bool | None = None
    Labels: dict[str, str] | None = None
    DriverConfig: DriverConfigBody | None = None
    Subpath: str | None = None


class TmpfsOptionsBody(_Body):
    """API: Mount.TmpfsOptions."""

    SizeBytes: Int64 | None = None
    Mode: Int64 | None = None
    Options: list[list[str]] | None = None


class ImageOptionsBody(_Body):
    """API: Mount.ImageOptions."""

    Subpath: str | None = None


class Mount(_Body):
    """API: Mount."""

    Type: str | None = None
    Source: str | None = None
    Target: str | None = None
    ReadOnly: bool | None = None
    Consistency: str | None = None
    BindOptions: BindOptionsBody | None = None
    VolumeOptions: VolumeOptionsBody | None = None
    TmpfsOptions: TmpfsOptionsBody | None = None
    ImageOptions: ImageOptionsBody | None = None


class Resources(_Body):
    """API: Resources."""

    CpuShares: Int64 | None = None
    Memory: Int64 | None = None
    NanoCpus: Int64 | None = None
    CgroupParent: str | None = None
    BlkioWeight: Uint16 | None = None
    BlkioWeightDevice: list[WeightDevice] | None = None
    BlkioDeviceReadBps: list[ThrottleDevice] | None = None
    BlkioDeviceWriteBps: list[ThrottleDevice] | None = None
    BlkioDeviceReadIOps: list[ThrottleDevice] | None = None
    BlkioDeviceWriteIOps: list[ThrottleDevice] | None = None
    CpuPeriod: Int64 | None = None
    CpuQuota: Int64 | None = None
    CpuRealtimePeriod: Int64 | None = None
    CpuRealtimeRuntime: Int64 | None = None
    CpusetCpus: str | None = None
    CpusetMems: str | None = None
    Devices: list[DeviceMapping] | None = None
    DeviceCgroupRules: list[str] | None = None
    DeviceRequests: list[DeviceRequest] | None = None
    KernelMemory: Int64 | None = None
    KernelMemoryTCP: Int64 | None = None
    MemoryReservation: Int64 | None = None
    MemorySwap: Int64 | None = None
    MemorySwappiness: Int64 | None = None
    OomKillDisable: bool | None = None
    PidsLimit: Int64 | None = None
    Ulimits: list[Ulimit] | None = None
    CpuCount: Int64 | None = None
    CpuPercent: Int64 | None = None
    IOMaximumIOps: Int64 | None = None
    IOMaximumBandwidth: Int64 | None = None


class ContainerUpdateRequest(Resources):
    """API: ContainerUpdate's body."""

    RestartPolicy: RestartPolicyBody | None = None


class HostConfigBody(Resources):
    """API: HostConfig."""

    Binds: list[str] | None = None
    ContainerIDFile: str | None = None
    LogConfig: LogConfigBody | None = None
    NetworkMode: str | None = None
    PortBindings: dict[str, list[PortBinding] | None] | None = None
    RestartPolicy: RestartPolicyBody | None = None
    AutoRemove: bool | None = None
    VolumeDriver: str | None = None
    VolumesFrom: list[str] | None = None
    ConsoleSize: list[Uint64] | None = None
    Annotations: dict[str, str] | None = None
    CapAdd: list[str] | None = None
    CapDrop: list[str] | None = None
    CgroupnsMode: str | None = None
    Dns: list[str] | None = None
    DnsOptions: list[str] | None = None
    DnsSearch: list[str] | None = None
    ExtraHosts: list[str] | None = None
    GroupAdd: list[str] | None = None
    IpcMode: str | None = None
    Cgroup: str | None = None
    Links: list[str] | None = None
    OomScoreAdj: Int64 | None = None
    PidMode: str | None = None
    Privileged: bool | None = None
    PublishAllPorts: bool | None = None
    ReadonlyRootfs: bool | None = None
    SecurityOpt: list[str] | None = None
    StorageOpt: dict[str, str] | None = None
    Tmpfs: dict[str, str] | None = None
    UTSMode: str | None = None
    UsernsMode: str | None = None
    ShmSize: Int64 | None = None
    Sysctls: dict[str, str] | None = None
    Runtime: str | None = None
    Isolation: str | None = None
    Mounts: list[Mount] | None = None
    Init: bool | None = None
    MaskedPaths: list[str] | None = None
    ReadonlyPaths: list[str] | None = None


class EndpointIPAMConfig(_Body):
    """API: EndpointIPAMConfig."""

    IPv4Address: str | None = None
    IPv6Address: str | None = None
    LinkLocalIPs: list[str] | None = None


class EndpointSettings(_Body):
    """API: EndpointSettings (what a request may say of one)."""

    IPAMConfig: EndpointIPAMConfig | None = None
    Links: list[str] | None = None
    Aliases: list[str] | None = None
    MacAddress: str | None = None
    DriverOpts: dict[str, str] | None = None
    GwPriority: Int64 | None = None
    NetworkID: str | None = None


class NetworkingConfigBody(_Body):
    """API: NetworkingConfig."""

    EndpointsConfig: dict[str, EndpointSettings | None] | None = None


class ContainerConfigBody(_Body):
    """API: ContainerConfig."""

    Hostname: str | None = None
    Domainname: str | None = None
    User: str | None = None
    AttachStdin: bool | None = None
    AttachStdout: bool | None = None
    AttachStderr: bool | None = None
    ExposedPorts: dict[str, dict[str, str]] | None = None
    Tty: bool | None = None
    OpenStdin: bool | None = None
    StdinOnce: bool | None = None
    Env: list[str] | None = None
    Cmd: list[str] | str | None = None
    Healthcheck: HealthcheckBody | None = None
    ArgsEscaped: bool | None = None
    Image: str | None = None
    Volumes: dict[str, dict[str, str]] | None = None
    WorkingDir: str | None = None
    Entrypoint: list[str] | str | None = None
    NetworkDisabled: bool | None = None
    MacAddress: str | None = None
    OnBuild: list[str] | None = None
    Labels: dict[str, str] | None = None
    StopSignal: str | None = None
    StopTimeout: Int64 | None = None
    Shell: list[str] | None = None


class ContainerCreateRequest(ContainerConfigBody):
    """API: ContainerCreate's body: ContainerConfig with HostConfig and NetworkingConfig inside."""

    HostConfig: HostConfigBody | None = None
    NetworkingConfig: NetworkingConfigBody | None = None

"""Bodies of the exec operations."""

from __future__ import annotations

from pydantic import ConfigDict, NonNegativeInt

from compat_api.schemas.folding import FoldedBody


class _Body(FoldedBody):
    model_config = ConfigDict(extra="ignore", strict=True)


class ExecCreateRequest(_Body):
    """API: ContainerExec's body (ExecConfig)."""

    User: str | None = None
    Privileged: bool | None = None
    Tty: bool | None = None
    ConsoleSize: list[NonNegativeInt] | None = None  # [height, width]
    AttachStdin: bool | None = None
    AttachStdout: bool | None = None
    AttachStderr: bool | None = None
    DetachKeys: str | None = None
    Env: list[str] | None = None
    WorkingDir: str | None = None
    Cmd: list[str] | None = None


class ExecStartRequest(_Body):
    """API: ExecStart's body (ExecStartConfig)."""

    Detach: bool | None = None
    Tty: bool | None = None
    ConsoleSize: list[NonNegativeInt] | None = None  # [height, width]

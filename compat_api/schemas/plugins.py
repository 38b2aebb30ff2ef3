"""Bodies of the plugin operations."""

from __future__ import annotations

from pydantic import RootModel

from compat_api.schemas.folding import FoldedBody


class PluginPrivilege(FoldedBody):
    """API: PluginPrivilege."""

    Name: str | None = None
    Description: str | None = None
    Value: list[str] | None = None


class PluginPrivileges(RootModel[list[PluginPrivilege]]):
    """API: PluginPull's body."""


class PluginSettings(RootModel[list[str]]):
    """API: PluginSet's body: `NAME=value` each."""

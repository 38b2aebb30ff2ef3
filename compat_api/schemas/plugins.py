"""Bodies of the plugin operations."""

from __future__ import annotations

from typing import Any

from pydantic import RootModel


class PluginPrivileges(RootModel[Any]):
    """API: PluginPull's body. A list of privileges in theory, anything in practice: nothing is granted."""


class PluginSettings(RootModel[list[str]]):
    """API: PluginSet's body: `NAME=value` each."""

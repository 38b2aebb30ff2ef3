"""Keys of bodies as Go reads them, in any case: docker-py writes `detachKeys` where Docker says `DetachKeys`."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, model_validator


class FoldedBody(BaseModel):
    """A body, or an object in one, whose keys may be written in any case; the last one counts."""

    _by_folded_key: ClassVar[dict[str, str]]

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: Any) -> None:
        """Note the fields once for each class."""
        super().__pydantic_init_subclass__(**keywords)
        cls._by_folded_key = {name.lower(): name for name in cls.model_fields}

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, given: Any) -> Any:
        if not isinstance(given, dict) or all(key in cls.model_fields for key in given):
            return given
        return {cls._by_folded_key.get(key.lower(), key): value for key, value in given.items()}

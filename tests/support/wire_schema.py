"""The body of the tests' own operations (wire_service)."""

from pydantic import BaseModel


class Inner(BaseModel):
    """An object inside."""

    Deep: int = 0


class Thing(BaseModel):
    """A body."""

    Name: str = ""
    Size: int = 0
    On: bool = False
    List: list[str] = []
    Inner_: Inner | None = None

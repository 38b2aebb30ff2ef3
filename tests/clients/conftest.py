"""What the tests through clients share."""

from collections.abc import Iterator

import pytest

from tests.support.instance import Instance
from tests.support.streams import remove


@pytest.fixture
def containers(moorage: Instance) -> Iterator[list[str]]:
    """Ids noted here are removed after the test."""
    noted: list[str] = []
    yield noted
    for container in noted:
        remove(moorage, container)

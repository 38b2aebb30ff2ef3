"""JSON that others send is read or refused, however deep it goes."""

import pytest

from service import jsontext


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_what_is_too_deep_is_refused_as_json(text: str) -> None:
    with pytest.raises(ValueError, match="exceeded max depth"):
        jsontext.loads(text)

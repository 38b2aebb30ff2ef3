"""`_sqlite3`, the C module under `sqlite3`, without what it imports.

When it is loaded it asks `functools` for `lru_cache`, which remembers a connection's statements: `functools` is 3 ms of
a process that lives for 20. What it wants of it is itself of C, so it is given that, and the name is free again.
"""

import sys

if "functools" in sys.modules:
    import _sqlite3
else:
    from _functools import _lru_cache_wrapper  # type: ignore[import-not-found]  # what `functools` wraps

    TYPE_CHECKING = False
    if TYPE_CHECKING:
        from collections.abc import Callable

    class _Functools:
        """All of the module that is asked for."""

        @staticmethod
        def lru_cache(maxsize: int) -> "Callable[[object], object]":
            """As the real one, but for `cache_info`, which nobody asks."""
            return lambda function: _lru_cache_wrapper(function, maxsize, False, tuple)

    sys.modules["functools"] = _Functools  # type: ignore[assignment]  # anything with that attribute will do
    try:
        import _sqlite3
    finally:
        del sys.modules["functools"]

__all__ = ("_sqlite3",)

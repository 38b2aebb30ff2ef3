"""Who has an image: the mirrors are asked first, then the registry itself."""

from service.content.registry import Registry
from service.content.registry_hosts import hosts
from service.errors import MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from service.content.reference import Reference
    from service.content.registry_credentials import Credentials
    from service.engine.engine import Engine

    Answer = TypeVar("Answer")


async def first(
    engine: "Engine",
    reference: "Reference",
    credentials: "Credentials",
    ask: "Callable[[Registry], Awaitable[Answer]]",
) -> "tuple[Registry, Answer]":
    """The first that answers `ask`, open (its caller closes it), and the answer. Complaints of mirrors are logged.

    Raises the registry's own error.
    """
    for host in hosts(engine.settings, reference):
        registry = Registry(engine.settings, reference, credentials, host)
        try:
            await registry.open()
            return registry, await ask(registry)
        except BaseException as error:
            await registry.close()
            if not host.is_mirror or not isinstance(error, MoorageError):
                raise
            engine.log(f"mirror {host.name}: {error.message}")
    raise AssertionError("the registry itself is the last of them")

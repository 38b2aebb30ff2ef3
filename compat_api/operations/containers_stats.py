"""What a container uses."""

from compat_api.declaration import ApiVersion, Flag, get
from compat_api.reply import Reply, Stream
from compat_api.versions import apply, has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.engine.engine import Engine
    from service.engine.stats import Samples


@get("/containers/{id}/stats")
async def container_stats(
    engine: "Engine",
    id: str,
    stream: bool = Flag(True),
    one_shot: bool = Flag(name="one-shot"),
    version: tuple[int, int] = ApiVersion(),
) -> "Reply | Stream":
    """Get container stats based on resource usage (ContainerStats)."""
    from service.engine.stats import Samples

    samples = Samples(engine, id)
    if stream:
        return Stream(_lines(samples, version))
    two = not (one_shot and has("stats one-shot", version))
    return Reply.json(await samples.once(two=two), shape="Stats")


async def _lines(samples: "Samples", version: tuple[int, int]) -> "AsyncIterator[bytes]":
    from compat_api.streams.jsonlines import line

    documents = samples.every_second()
    try:
        async for document in documents:
            yield line(apply("Stats", document, version))
    finally:
        await documents.aclose()

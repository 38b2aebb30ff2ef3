"""/commit."""

from compat_api.declaration import Flag, Text, Texts, post
from compat_api.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.schemas.containers import ContainerConfigBody
    from service.engine.engine import Engine


@post("/commit", body="compat_api.schemas.containers:ContainerConfigBody")
async def image_commit(
    engine: "Engine",
    container: str = Text(),
    repo: str = Text(),
    tag: str = Text(),
    comment: str = Text(),
    author: str = Text(),
    pause: bool = Flag(default=True),
    changes: "list[str]" = Texts(),
    *,
    body: "ContainerConfigBody",
) -> Reply:
    """Make an image of a container (API: ImageCommit)."""
    from service.engine import commit, images

    target = images.parse_repo_tag(repo, tag)
    config = body.model_dump(exclude_unset=True)
    image_id = await commit.commit(
        engine,
        container,
        target,
        config={
            key: [value] if key in ("Cmd", "Entrypoint") and isinstance(value, str) else value
            for key, value in config.items()
        }
        or None,
        instructions=changes,
        pause=pause,
        author=author,
        comment=comment,
    )
    return Reply.json({"Id": image_id}, status=201)

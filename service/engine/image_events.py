"""The events of images: pull, push, tag, untag, load, import, save, delete, prune."""

from service import jsontext
from service.engine import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.store.database import Database
    from service.store.images import ImageRow


def record(database: "Database", action: str, image: "ImageRow", name: str, actor: str = "") -> None:
    """Record that something happened to an image; its labels and `name` are the attributes.

    `actor` is the id that the event carries: the image's own, unless given (pull and push carry the name). Call inside
    the transaction of the verb.
    """
    labels = (jsontext.loads(image.config).get("config") or {}).get("Labels") or {}
    events.record(database, "image", action, actor or image.id, {**labels, "name": name})

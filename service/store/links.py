"""The rows of `links`: by which alias a container (the parent, in Docker's word) calls another (the child)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.store.database import Database


def insert(database: "Database", parent_id: str, alias: str, child_id: str, child_name: str) -> None:
    """Register a link. `child_name` is what inspect shows when the child is gone."""
    database.change(
        "INSERT INTO links (parent_id, alias, child_id, child_name) VALUES (?, ?, ?, ?)",
        (parent_id, alias, child_id, child_name),
    )


def of_parent(database: "Database", parent_id: str) -> "list[tuple[str, str, str]]":
    """(alias, id and name of the child) of each link of a container."""
    return [
        (row[0], row[1], row[2])
        for row in database.rows(
            "SELECT alias, child_id, coalesce(containers.name, child_name) FROM links "
            "LEFT JOIN containers ON containers.id = child_id WHERE parent_id = ? ORDER BY alias",
            (parent_id,),
        )
    ]


def of_child(database: "Database", child_id: str) -> "list[tuple[str, str]]":
    """(id of the parent, alias) of each link to a container."""
    return [
        (row[0], row[1])
        for row in database.rows("SELECT parent_id, alias FROM links WHERE child_id = ? ORDER BY alias", (child_id,))
    ]


def names(database: "Database") -> "dict[str, list[str]]":
    """The names that containers have by links, `/web/db`, by the id of the child."""
    found: dict[str, list[str]] = {}
    for child_id, name in database.rows(
        "SELECT child_id, '/' || containers.name || '/' || alias FROM links "
        "JOIN containers ON containers.id = parent_id"
    ):
        found.setdefault(child_id, []).append(name)
    return found


def delete(database: "Database", parent_id: str, alias: str) -> None:
    """Forget a link."""
    database.change("DELETE FROM links WHERE parent_id = ? AND alias = ?", (parent_id, alias))

"""A git repository as a directory: git's command line (its program must be installed). Synchronous."""

import os

from service.errors import InvalidParameter, SystemFailure
from service.kernel.tree import remove_tree
from service.process import run
from service.settings import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings


def is_repository(place: str) -> bool:
    """Whether a place in the network is a git repository by its name, as Docker tells them."""
    url = place.partition("#")[0]
    if url.startswith(("http://", "https://")):
        return url.endswith(".git")
    return url.startswith(("git://", "github.com/", "git@", "ssh://"))


def fetched(settings: "Settings", checkout: str, home: str, place: str, *, keeps_git: bool = False) -> str:
    """Fetch `URL#reference:directory` into the empty directory `checkout`; where that directory is.

    `home` stands for the user's; `keeps_git`: the directory .git stays. Raises InvalidParameter, SystemFailure with
    git's words.
    """
    url, _, part = place.partition("#")
    reference, _, folder = part.partition(":")
    if url.startswith("github.com/"):
        url = "https://" + url
    if url.startswith("-") or reference.startswith("-"):
        raise InvalidParameter(f"invalid git reference: {place}")
    program = find_program("git")
    environment = {
        **settings.environment(),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": home,
    }
    for arguments in (
        ["init", "-q", checkout],
        ["-C", checkout, "remote", "add", "origin", url],
        ["-C", checkout, "fetch", "-q", "--depth=1", "origin", reference or "HEAD"],
        ["-C", checkout, "checkout", "-q", "FETCH_HEAD"],
        ["-C", checkout, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"],
    ):
        done = run([program, *arguments], environment=environment)
        if done.code:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise SystemFailure(f"error fetching: {said or f'exit code {done.code}'}")
    if not keeps_git:
        remove_tree(f"{checkout}/.git")
    chosen = os.path.realpath(f"{checkout}/{folder}")
    if chosen != checkout and not chosen.startswith(checkout + "/"):
        raise InvalidParameter(f"error setting git context, {folder!r} not within git root")
    if not os.path.isdir(chosen):
        raise InvalidParameter(f"error setting git context, not a directory: {folder}")
    return chosen

"""A git repository as a directory: git's command line (its program must be installed). Synchronous."""

import os
import re
import shlex
from urllib.parse import urlsplit

from service.content.git_place import GitPlace
from service.errors import InvalidParameter, NotFound, SystemFailure
from service.kernel.tree import remove_tree
from service.process import run
from service.settings import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings

_BY_SSH = re.compile(r"ssh://|[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:")
_SHORTEST = 7  # signs of a commit's hash that say which it is
_NOT_SHALLOW = (
    "does not support shallow",
    "Server does not allow request for unadvertised object",
    "upload-pack: not our",
)


def is_repository(place: str) -> bool:
    """Whether a place in the network is a git repository by its name, as Docker tells them."""
    url = place.partition("#")[0].partition("?")[0]
    if url.startswith(("http://", "https://")):
        return url.endswith(".git")
    return url.startswith(("git://", "github.com/", "git@", "ssh://"))


def is_by_ssh(place: str) -> bool:
    """Whether a repository is reached by ssh: `ssh://…`, or `user@host:path` as scp has it."""
    return bool(_BY_SSH.match(place))


def fetched(
    settings: "Settings",
    checkout: str,
    home: str,
    place: str,
    *,
    keeps_git: "bool | None" = None,
    commit: str = "",
    authorization: str = "",
    agent: str = "",
) -> str:
    """Fetch a place (`git_place`) into the empty directory `checkout`; where the directory is that is wanted.

    `home` stands for the user's; `keeps_git`: the directory .git stays; `commit`: what the reference has to be, or how
    that begins; `authorization`: the header of that name for the repository's host; `agent`: the socket of the only
    agent that ssh may ask for keys. Raises NotFound for a reference that is not there or not that commit,
    InvalidParameter, SystemFailure with git's words.
    """
    wanted = GitPlace(place)
    wanted.agrees(keeps_git=keeps_git, commit=commit)
    url, folder, commit = wanted.url, wanted.folder, wanted.commit
    reference = commit if wanted.by_commit and commit else wanted.reference
    if url.startswith("-") or reference.startswith("-"):
        raise InvalidParameter(f"invalid git reference: {place}")
    if commit and (len(commit) < _SHORTEST or commit.strip("0123456789abcdef")):
        raise InvalidParameter(f"invalid checksum {commit} for git source, expected hex commit hash")
    environment = {
        **settings.environment(),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": home,
        "GIT_SSH_COMMAND": _ssh(f"{home}/known_hosts"),
        **({"SSH_AUTH_SOCK": agent} if agent else {}),
    }
    if authorization:  # not among the arguments, which everybody can see
        parts = urlsplit(url)
        environment["GIT_CONFIG_COUNT"] = "1"
        environment["GIT_CONFIG_KEY_0"] = f"http.{parts.scheme}://{parts.netloc.rpartition('@')[2]}/.extraheader"
        environment["GIT_CONFIG_VALUE_0"] = f"Authorization: {authorization}"
    _git(environment, "init", "-q", checkout)
    _git(environment, "-C", checkout, "remote", "add", "origin", url)
    _git(environment, "-C", checkout, "checkout", "-q", _fetch(environment, checkout, reference))
    if commit:
        found = _git(environment, "-C", checkout, "rev-parse", "HEAD").strip()
        if not found.startswith(commit):
            raise NotFound(f"expected checksum to match {commit}, got {found}")
    if wanted.has_submodules and os.path.lexists(f"{checkout}/.gitmodules"):
        _git(environment, "-C", checkout, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    if wanted.has_commit_time:
        _give_time(checkout, int(_git(environment, "-C", checkout, "log", "-1", "--format=%ct").strip()))
    if wanted.keeps_git:
        remove_tree(f"{checkout}/.git/FETCH_HEAD")
    else:
        remove_tree(f"{checkout}/.git")
    chosen = os.path.realpath(f"{checkout}/{folder}")
    if chosen != checkout and not chosen.startswith(checkout + "/"):
        raise InvalidParameter(f"error setting git context, {folder!r} not within git root")
    if not os.path.isdir(chosen):
        raise InvalidParameter(f"error setting git context, not a directory: {folder}")
    return chosen


def _give_time(folder: str, seconds: int) -> None:
    for above, folders, files in os.walk(folder, topdown=False):
        for name in (*folders, *files):
            os.utime(f"{above}/{name}", (seconds, seconds), follow_symlinks=False)


def _ssh(known_hosts: str) -> str:
    """The ssh that git runs: nothing of the user's whom the service runs as, whose home it finds without HOME.

    A host that is met for the first time is believed, and has to show the same key for as long as `known_hosts` is
    there: there is nobody to ask.
    """
    file = known_hosts.replace("%", "%%")
    options = (
        *("BatchMode=yes", "StrictHostKeyChecking=accept-new", "UpdateHostKeys=no", "LogLevel=ERROR"),
        *("IdentityFile=none", "GlobalKnownHostsFile=/dev/null", f'UserKnownHostsFile="{file}"'),
    )
    return shlex.join(["ssh", "-F", "/dev/null", *(f"-o{option}" for option in options)])


def _git(environment: "dict[str, str]", *arguments: str) -> str:
    """What git writes. Raises SystemFailure with its words."""
    done = run([find_program("git"), *arguments], environment=environment)
    if done.code:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise SystemFailure(f"error fetching: {said or f'exit code {done.code}'}")
    return done.stdout.decode("utf-8", "replace")


def _fetch(environment: "dict[str, str]", checkout: str, reference: str) -> str:
    """Fetch a reference, as little as its server can give; what it is called in the checkout. Raises NotFound."""
    try:
        _git(environment, "-C", checkout, "fetch", "-q", "--depth=1", "origin", reference or "HEAD")
    except SystemFailure as error:
        if "couldn't find remote ref" in error.message:
            raise NotFound(f"repository does not contain ref {reference}") from None
        if not any(words in error.message for words in _NOT_SHALLOW):
            raise
    else:
        return "FETCH_HEAD"
    # a server of files only, or one that gives no single commits
    _git(environment, "-C", checkout, "fetch", "-q", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*", "HEAD")
    if not reference:
        return "FETCH_HEAD"
    for name in (f"refs/remotes/origin/{reference.removeprefix('refs/heads/')}", f"refs/tags/{reference}", reference):
        try:
            return _git(environment, "-C", checkout, "rev-parse", "--verify", "-q", f"{name}^{{commit}}").strip()
        except SystemFailure:
            continue  # it is of another kind
    raise NotFound(f"repository does not contain ref {reference}")

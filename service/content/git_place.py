"""What is wanted of a git repository: `URL#reference:directory`, or `URL?ref=…&subdir=…` (Dockerfile reference, "Adding
files from a Git repository"; behaviour of buildkit's frontend/dockerfile/dfgitutil)."""

from urllib.parse import parse_qsl

from service.errors import InvalidParameter

_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True", ""), ("0", "f", "F", "FALSE", "false", "False")
_SWITCHES = ("keep-git-dir", "submodules", "fetch-by-commit")  # alone, they mean true
_TEXTS = ("ref", "tag", "branch", "subdir", "checksum", "commit", "mtime")


class GitPlace:
    """`keeps_git` is None where it is not said; `commit`: what the reference has to be, or how that begins;
    `by_commit`: it is fetched itself; `has_commit_time`: files are as old as their commit."""

    def __init__(self, text: str) -> None:
        """Raises InvalidParameter in BuildKit's words."""
        place, _, part = text.partition("#")
        self.url, _, query = place.partition("?")
        self.reference, _, self.folder = part.partition(":")
        self.commit = ""
        self.keeps_git: bool | None = None
        self.has_submodules, self.by_commit, self.has_commit_time = True, False, False
        if self.url.startswith("github.com/"):
            self.url = f"https://{self.url}"
        self._query(query)

    def _query(self, query: str) -> None:
        given: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in given:
                raise InvalidParameter(f'query "{name}" has multiple values')
            given[name] = value
        for name, value in given.items():
            if name not in (*_SWITCHES, *_TEXTS):
                raise InvalidParameter(f'unexpected query "{name}"')
            if not value and name in _TEXTS:
                raise InvalidParameter(f'query "{name}" has no value')
        tag = _full(given.get("tag", ""), "refs/tags/")
        branch = _full(given.get("branch", ""), "refs/heads/")
        if tag and branch:
            raise InvalidParameter("branch conflicts with tag")
        for name in (given.get("ref", ""), tag, branch):
            self.reference = _agreed("ref", self.reference, name)
        self.folder = _agreed("subdir", self.folder, given.get("subdir", ""))
        self.commit = given.get("commit") or given.get("checksum") or ""
        if "keep-git-dir" in given:
            self.keeps_git = _boolean("keep-git-dir", given["keep-git-dir"])
        if "submodules" in given:
            self.has_submodules = _boolean("submodules", given["submodules"])
        if "fetch-by-commit" in given:
            self.by_commit = _boolean("fetch-by-commit", given["fetch-by-commit"])
        mtime = given.get("mtime", "checkout")
        if mtime not in ("checkout", "commit"):
            raise InvalidParameter(f'invalid mtime value: "{mtime}" (must be "checkout" or "commit")')
        self.has_commit_time = mtime == "commit"

    def agrees(self, *, keeps_git: "bool | None", commit: str) -> None:
        """Take what is said beside the place, too. Raises InvalidParameter where the two contradict each other."""
        if keeps_git is not None and self.keeps_git is not None and keeps_git != self.keeps_git:
            raise InvalidParameter("inconsistent keep-git-dir configuration")
        if commit and self.commit and commit != self.commit:
            raise InvalidParameter(f'checksum mismatch "{commit}" != "{self.commit}"')
        self.keeps_git = keeps_git if self.keeps_git is None else self.keeps_git
        self.commit = (self.commit or commit).lower()


def _full(name: str, prefix: str) -> str:
    return prefix + name.removeprefix(prefix) if name else ""


def _agreed(what: str, said: str, more: str) -> str:
    if said and more and said != more:
        raise InvalidParameter(f'{what} conflicts: "{said}" vs "{more}"')
    return said or more


def _boolean(name: str, text: str) -> bool:
    if text not in (*_TRUE, *_FALSE):
        raise InvalidParameter(f'invalid {name} value: "{text}"')
    return text in _TRUE

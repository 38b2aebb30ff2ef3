"""Image names as Docker reads them: `busybox` means `docker.io/library/busybox:latest`. Pure.

    reference  = name [":" tag] ["@" digest]
    name       = [domain "/"] path              (a first part with "." or ":" or capitals, or "localhost", is a domain)
    path       = component *("/" component)     component = alnum *(separator alnum); separator = . _ __ or dashes

The grammar is that of github.com/distribution/reference; the messages are the ones its users see. No regular
expressions: `re` is not on the cold path.
"""

from service.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
OFFICIAL_HOST = "registry-1.docker.io"  # where the registry of that domain answers
LEGACY_DOMAIN = "index.docker.io"
OFFICIAL = "library/"
DEFAULT_TAG = "latest"
LONGEST_PATH = 255

_LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
_ALNUM = _LOWER + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEX = "0123456789abcdef"
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference:
    """A parsed name. `tag` and `digest` are empty when the text had none; see `with_default_tag`."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str = "", digest: str = "") -> None:
        self.domain, self.path, self.tag, self.digest = domain, path, tag, digest

    @property
    def repository(self) -> str:
        """Domain and path: docker.io/library/busybox."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """The repository as people write it: busybox."""
        return familiar(self.repository)

    @property
    def is_name_only(self) -> bool:
        """Whether it has neither tag nor digest."""
        return not self.tag and not self.digest

    def with_default_tag(self) -> "Reference":
        """Itself, or with the tag `latest` when it has neither tag nor digest."""
        return Reference(self.domain, self.path, DEFAULT_TAG) if self.is_name_only else self

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> str:
        """As people write it: busybox:latest."""
        return familiar(str(self))

    @property
    def stored(self) -> str:
        """The key under which the store knows it: the digest decides where there is one, else the tag."""
        if self.digest:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag or DEFAULT_TAG}"


def familiar(text: str) -> str:
    """A canonical name (with or without tag and digest) without what Docker Hub's rules would add again."""
    if not text.startswith("docker.io/"):
        return text
    rest = text[len("docker.io/") :]
    if rest.startswith(OFFICIAL) and "/" not in rest[len(OFFICIAL) :]:
        return rest[len(OFFICIAL) :]
    return rest


def parse(text: str) -> Reference:
    """Read a name. Raises InvalidParameter with Docker's own words."""
    if len(text) == 64 and _only(text, _HEX):
        raise InvalidParameter(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    remote = remainder.partition(":")[0]
    if remote.lower() != remote:
        raise InvalidParameter(f"invalid reference format: repository name ({remote}) must be lowercase")
    name, _, digest = remainder.partition("@")
    path, colon, tag = name.partition(":")
    if (
        not _is_domain(domain)
        or not all(_is_component(part) for part in path.split("/"))
        or (colon and not is_tag(tag))
        or ("@" in remainder and not _looks_like_digest(digest))
    ):
        raise InvalidParameter("invalid reference format")
    if len(path) > LONGEST_PATH:
        raise InvalidParameter(f"repository name must not be more than {LONGEST_PATH} characters")
    if digest:
        check_digest(digest)
    return Reference(domain, path, tag, digest)


def parse_any(text: str) -> "Reference | str":
    """Read a name, or an image id (64 hex digits, or a whole digest): then the digest itself is returned."""
    if len(text) == 64 and _only(text, _HEX):
        return "sha256:" + text
    if is_digest(text):
        return text
    return parse(text)


def is_tag(text: str) -> bool:
    """1 to 128 of letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`."""
    return 0 < len(text) <= 128 and text[0] in _ALNUM + "_" and _only(text, _ALNUM + "_.-")


def is_digest(text: str) -> bool:
    """Whether `text` is a whole digest of a known algorithm."""
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == _DIGEST_LENGTHS.get(algorithm, -1) and _only(encoded, _HEX)


def check_digest(text: str) -> str:
    """`text` itself. Raises InvalidParameter unless it is a whole digest of a known algorithm."""
    algorithm, colon, encoded = text.partition(":")
    if not colon or not encoded:
        raise InvalidParameter("invalid checksum digest format")
    if algorithm not in _DIGEST_LENGTHS:
        raise InvalidParameter("unsupported digest algorithm")
    if len(encoded) != _DIGEST_LENGTHS[algorithm]:
        raise InvalidParameter("invalid checksum digest length")
    if not _only(encoded, _HEX):
        raise InvalidParameter("invalid checksum digest format")
    return text


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, OFFICIAL + text
    if first == LEGACY_DOMAIN:
        domain, remainder = DEFAULT_DOMAIN, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = OFFICIAL + remainder
    return domain, remainder


def _only(text: str, characters: str) -> bool:
    return not text.strip(characters)


def _is_component(text: str) -> bool:
    """alnum *(separator alnum): separators are one dot, one or two underscores, any number of dashes."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER or not all(c in _LOWER + "._-" for c in text):
        return False
    for character in _LOWER:
        if not text:
            break
        text = text.replace(character, " ")
    return all(run in (".", "_", "__") or not run.strip("-") for run in text.split())


def _is_domain(text: str) -> bool:
    host, bracket, port = text, "", ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or not host or not all(c in "0123456789abcdefABCDEF:" for c in host):
            return False
        return not port or (port[0] == ":" and port[1:].isascii() and port[1:].isdigit())
    host, colon, port = text.partition(":")
    if colon and not (port.isascii() and port.isdigit()):
        return False
    return all(
        part and part[0] != "-" and part[-1] != "-" and all(c in _ALNUM + "-" for c in part) for part in host.split(".")
    )


def _looks_like_digest(text: str) -> bool:
    """The looser form that the grammar of references takes; `check_digest` then says what is wrong with it."""
    algorithm, _, encoded = text.partition(":")
    if len(encoded) < 32 or not all(c in _HEX + "ABCDEF" for c in encoded):
        return False
    for separator in "-_+.":
        algorithm = algorithm.replace(separator, "+")
    return all(part and part[0].isascii() and part[0].isalpha() and part.isalnum() for part in algorithm.split("+"))


def normalized(text: str) -> str:
    """The key under which the store would know a name; empty when `text` is no name."""
    try:
        return parse(text).stored
    except InvalidParameter:
        return ""

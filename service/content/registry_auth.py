"""The server's own credentials for registries: used when a client sends none.

They are where `docker login` or `podman login` of the service's user leaves them: config.json of Docker, auth.json of
containers, or the programs `docker-credential-NAME` that such a file names. What is in them leaves this module only as
`Credentials`; of a program that fails only its name is logged.

Sources: docker/cli cli/config; containers-auth.json(5); docker/docker-credential-helpers README.
"""

from service import file_cache, journal, jsontext, process
from service.content.reference import DEFAULT_DOMAIN
from service.content.registry_credentials import Credentials
from service.errors import SystemFailure
from service.settings import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.settings import Settings

HUB = "https://index.docker.io/v1/"  # what Docker Hub is called in such files
HELPER_SECONDS = 10.0  # that a program may take to answer: it may have to ask somebody else
_TOKEN = "<token>"  # noqa: S105 - the user name that says that the secret is an identity token
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def find(settings: "Settings", domain: str, path: str = "") -> Credentials:
    """The credentials for a repository (`path`) of a registry; empty ones when there are none. Blocking.

    The first file that has some wins; in it, a program before what is written, and the longest name.
    """
    for file in settings.auth_files:
        document = _read([file])
        keys = _keys(domain, path)
        program = _program(document, keys)
        if program:
            found = _asked(settings, program, HUB if domain == DEFAULT_DOMAIN else domain)
        else:
            found = _written(document.get("auths"), keys)
        if not found.is_empty:
            return found
    return Credentials()


def _keys(domain: str, path: str) -> "list[str]":
    """What a file may call a repository, the most special first."""
    parts = [domain, *filter(None, path.split("/"))]
    keys = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return [*keys, "index.docker.io", "registry-1.docker.io"] if domain == DEFAULT_DOMAIN else keys


def _plain(key: str) -> str:
    """A key without what older clients wrote around the host's name: https://host/v1/."""
    scheme, found, rest = key.partition("://")
    rest = rest if found and scheme in ("http", "https") else key
    for version in ("/v1", "/v2"):
        rest = rest.removesuffix("/").removesuffix(version)
    return rest.removesuffix("/")


def _written(auths: "Any", keys: "list[str]") -> Credentials:
    if not isinstance(auths, dict):
        return Credentials()
    by_name = {_plain(key): value for key, value in auths.items() if isinstance(value, dict)}
    for key in keys:
        if key in by_name:
            found = Credentials.from_document(by_name[key])
            if not found.is_empty:
                return found
    return Credentials()


def _program(document: "dict[str, Any]", keys: "list[str]") -> str:
    """The name of the program that knows; empty when the file names none."""
    helpers = document.get("credHelpers")
    by_name = {_plain(key): value for key, value in helpers.items()} if isinstance(helpers, dict) else {}
    found = next((by_name[key] for key in keys if key in by_name), document.get("credsStore"))
    return found if isinstance(found, str) and found and not set(found) - _NAME else ""


def _asked(settings: "Settings", name: str, address: str) -> Credentials:
    """What a program says; it reads the address, and writes JSON."""
    program = f"docker-credential-{name}"
    try:
        done = process.run(
            [find_program(program), "get"],
            environment={**settings.environment(), "HOME": settings.home},
            input_bytes=address.encode(),
            seconds=HELPER_SECONDS,
        )
    except (FileNotFoundError, SystemFailure) as error:
        journal.write("warning", f"{program} for {address}: {error}")
        return Credentials()
    if done.code:
        if b"credentials not found" not in done.stdout:  # that is how it says that it has none
            journal.write("warning", f"{program} for {address}: exit code {done.code}")
        return Credentials()
    try:
        said = jsontext.loads(done.stdout)
        username, secret = str(said["Username"]), str(said["Secret"])
    except (ValueError, LookupError, TypeError):
        journal.write("warning", f"{program} for {address}: its answer cannot be read")
        return Credentials()
    return Credentials(identity_token=secret) if username == _TOKEN else Credentials(username, secret)


def _parse(paths: "Sequence[str]") -> "dict[str, Any]":
    for path in paths:
        try:
            with open(path, "rb") as file:
                document = jsontext.loads(file.read())
        except (OSError, ValueError):
            document = None  # its text may hold a password: not told
        if isinstance(document, dict):
            return document
        journal.write("warning", f"{path} cannot be read: no credentials from there")
    return {}


_read = file_cache.kept(_parse)

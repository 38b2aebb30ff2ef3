"""What a build is asked for (API: ImageBuild)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from service.content.reference import Reference
    from service.content.registry_credentials import Credentials


class Options:
    """The request, read and checked."""

    def __init__(self) -> None:
        self.dockerfile = "Dockerfile"
        self.tags: list[Reference] = []
        self.remote = ""  # where the context is, if it is not sent
        self.target = ""
        self.platform = ""
        self.quiet = self.no_cache = self.pull = False
        self.squash = False  # the layers above the base become one
        self.remove, self.force_remove = True, False  # intermediate containers: after success, after failure too
        self.arguments: Mapping[str, str | None] = {}
        self.labels: Mapping[str, str] = {}
        self.cache_from: Sequence[str] = ()
        self.host: dict[str, Any] = {}  # HostConfig of the containers of its steps
        self.logins: Mapping[str, dict[str, Any]] = {}  # X-Registry-Config

    def credentials(self, reference: "Reference") -> "Credentials":
        """What was given for the registry of an image."""
        from service.content.registry_credentials import Credentials

        names = (reference.domain, "index.docker.io", "registry-1.docker.io")
        for name, login in self.logins.items():
            bare = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
            if bare == reference.domain or (reference.domain == "docker.io" and bare in names):
                return Credentials.from_document(login)
        return Credentials()

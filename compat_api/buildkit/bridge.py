"""`moby.buildkit.v1.frontend.LLBBridge`: a client's own build function at work within its build.

Which build is meant stands in the metadata of every call.
"""

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from compat_api.buildkit import filesync, frontend, worker
from compat_api.buildkit.wire import gateway_pb2 as gateway
from service.content.registry_credentials import Credentials
from service.engine import solve_metadata, solving
from service.engine.solving import CacheOption, SourceRange
from service.errors import InvalidParameter, NotImplemented_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from compat_api.buildkit.builds import Build, Builds
    from service.engine.solving import Solved

_BUILD = "buildkit-controlapi-buildid"
# What a client asks for only when it finds it here (buildkit: frontend/gateway/pb/caps.go, solver/pb/caps.go).
_FRONTEND = (
    *(
        "solve.base",
        "solve.inlinereturn",
        "solve.metadata",
        "resolveimage",
        "resolveimage.resolvemode",
        "return",
        "returnmap",
        "proto.refarray",
    ),
    *("readfile", "readdir", "statfile", "importcaches", "frontend.inputs", "frontend.caps", "reference.output"),
    *("gateway.evaluate", "gateway.solve.evaluate", "gateway.warnings", "gateway.solve.metadata"),
    "source.metaresolver",
)
_LLB = (
    *("source.image", "source.local", "source.local.unique", "source.local.sessionid", "source.local.differ"),
    *("source.local.includepatterns", "source.local.followpaths", "source.local.excludepatterns"),
    *("source.local.sharedkeyhint", "source.http", "source.git", "source.git.fullurl"),
    *("exec.meta.base", "exec.meta.network", "exec.meta.security", "exec.meta.ulimit", "exec.mount.bind"),
    *("exec.mount.cache", "exec.mount.cache.sharing", "exec.mount.secret", "exec.mount.ssh", "exec.mount.tmpfs"),
    *("exec.secretenv", "file.base", "constraints", "platform", "meta.ignorecache", "meta.description"),
    *("meta.exportcache", "exporter.image.annotations", "exporter.multiple"),
)


class Bridge:
    """The service; its methods are called with grpclib's streams."""

    def __init__(self, builds: "Builds") -> None:
        self.builds = builds

    def methods(self) -> "dict[str, tuple[Callable[[Any], Any], type, type]]":
        """By name: what serves it, its request and its answer."""
        return {
            "Ping": (self.ping, gateway.PingRequest, gateway.PongResponse),
            "Solve": (self.solve, gateway.SolveRequest, gateway.SolveResponse),
            "Return": (self.returned, gateway.ReturnRequest, gateway.ReturnResponse),
            "Evaluate": (self.evaluate, gateway.EvaluateRequest, gateway.EvaluateResponse),
            "Inputs": (self.inputs, gateway.InputsRequest, gateway.InputsResponse),
            "StatFile": (self.stat_file, gateway.StatFileRequest, gateway.StatFileResponse),
            "ReadFile": (self.read_file, gateway.ReadFileRequest, gateway.ReadFileResponse),
            "ReadDir": (self.read_dir, gateway.ReadDirRequest, gateway.ReadDirResponse),
            "Warn": (self.warn, gateway.WarnRequest, gateway.WarnResponse),
            "ResolveImageConfig": (
                self.resolve_image_config,
                gateway.ResolveImageConfigRequest,
                gateway.ResolveImageConfigResponse,
            ),
            "ResolveSourceMeta": (
                self.resolve_source_meta,
                gateway.ResolveSourceMetaRequest,
                gateway.ResolveSourceMetaResponse,
            ),
        }

    async def _build(self, stream: "Any") -> "Build":
        return await self.builds.get(str(stream.metadata.get(_BUILD, "")))

    async def ping(self, stream: "Any") -> None:
        """What we can."""
        await stream.recv_message()
        await self._build(stream)
        await stream.send_message(
            gateway.PongResponse(
                FrontendAPICaps=[gateway.APICap(ID=name, Enabled=True) for name in _FRONTEND],
                LLBCaps=[gateway.APICap(ID=name, Enabled=True) for name in _LLB],
                Workers=[worker.record()],
            )
        )

    async def solve(self, stream: "Any") -> None:
        """Make an image by a frontend; the answer is a reference to it."""
        request = await stream.recv_message()
        build = await self._build(stream)
        if not request.Frontend:
            await self._solve_definition(stream, build, request.Definition)
            return
        imports = [CacheOption(found.Type, dict(found.Attrs)) for found in request.CacheImports]
        options = dict(request.FrontendOpt)
        wanted = frontend.Wanted(request.Frontend, options, dict(request.FrontendInputs), imports)
        try:
            solved = await frontend.make(self.builds, build, wanted)
        except Exception as error:
            build.failed = error  # the client repeats its words in Return, and expects them at the end of the build
            raise
        ref = gateway.Ref(id="" if solved.is_answer else solved.id)
        if not solved.is_answer:
            setattr(ref, "def", frontend.definition_of(solved.id))
        result = gateway.Result(ref=ref, metadata=dict(solved.metadata))
        await stream.send_message(gateway.SolveResponse(result=result))

    async def _solve_definition(self, stream: "Any", build: "Build", definition: bytes) -> None:
        """A definition that stands for a result of ours is that result; nothing is nothing; LLB is refused."""
        result = gateway.Result(ref=gateway.Ref())
        if definition:
            id = frontend.named_by(definition)
            image = self.builds.image(id) if id is not None else None
            if id is None or image is None:
                raise NotImplemented_("LLB definitions are not supported: only the frontend dockerfile.v0 is")
            if id not in build.images:
                image.use()
                build.images[id] = image
                build.making.append(image)
            result.ref.id = id
            setattr(result.ref, "def", definition)
        await stream.send_message(gateway.SolveResponse(result=result))

    async def returned(self, stream: "Any") -> None:
        """The client's function is done: with a result, or with an error."""
        request = await stream.recv_message()
        build = await self._build(stream)
        if not build.returned.done():
            if request.HasField("error") and request.error.code:
                build.returned.set_exception(_repeated(build, request.error.code, request.error.message))
                build.returned.exception()  # seen: its waiter may have left
            else:
                build.returned.set_result(request.result)
        await stream.send_message(gateway.ReturnResponse())

    async def evaluate(self, stream: "Any") -> None:
        """A result is made when it is handed out."""
        request = await stream.recv_message()
        build = await self._build(stream)
        frontend.result_of(build, request.Ref)
        await stream.send_message(gateway.EvaluateResponse())

    async def inputs(self, stream: "Any") -> None:
        """The inputs of a build, as they came."""
        await stream.recv_message()
        build = await self._build(stream)
        await stream.send_message(gateway.InputsResponse(Definitions=dict(build.request.FrontendInputs)))

    async def _of(self, stream: "Any", ref: str) -> "Solved":
        solved = frontend.result_of(await self._build(stream), ref)
        if solved.is_answer:
            raise InvalidParameter("an answer has no files")
        return solved

    async def stat_file(self, stream: "Any") -> None:
        """A file of a result."""
        request = await stream.recv_message()
        found = await (await self._of(stream, request.Ref)).stat_file(request.Path)
        await stream.send_message(gateway.StatFileResponse(stat=filesync.stat_of(found)))

    async def read_file(self, stream: "Any") -> None:
        """What a file of a result holds."""
        request = await stream.recv_message()
        solved = await self._of(stream, request.Ref)
        data = await solved.read_file(request.FilePath, request.Range.Offset, request.Range.Length)
        await stream.send_message(gateway.ReadFileResponse(Data=data))

    async def read_dir(self, stream: "Any") -> None:
        """What a directory of a result holds."""
        request = await stream.recv_message()
        found = await (await self._of(stream, request.Ref)).read_dir(request.DirPath, request.IncludePattern)
        await stream.send_message(gateway.ReadDirResponse(entries=[filesync.stat_of(entry) for entry in found]))

    async def warn(self, stream: "Any") -> None:
        """A warning of the client's own, to whoever follows the build."""
        request = await stream.recv_message()
        build = await self._build(stream)
        await build.progress.tell(
            solving.Warning(
                request.digest,
                request.short.decode("utf-8", "replace"),
                request.level,
                tuple(line.decode("utf-8", "replace") for line in request.detail),
                request.url,
                request.info.filename,
                request.info.data,
                tuple(SourceRange(lines.start.line, lines.end.line) for lines in request.ranges),
            )
        )
        await stream.send_message(gateway.WarnResponse())

    async def resolve_image_config(self, stream: "Any") -> None:
        """What an image is configured to be."""
        request = await stream.recv_message()
        build = await self._build(stream)
        if request.ResolverType:
            raise NotImplemented_(f"resolving {request.Ref}: images of registries can be resolved, no OCI layouts")
        digest, config = await self._image(build, request.Ref, request.ResolveMode, request.Platform)
        await stream.send_message(gateway.ResolveImageConfigResponse(Digest=digest, Config=config, Ref=request.Ref))

    async def resolve_source_meta(self, stream: "Any") -> None:
        """The same, for what LLB calls a source; there is nothing to tell of one that is no image."""
        request = await stream.recv_message()
        build = await self._build(stream)
        answer = gateway.ResolveSourceMetaResponse(Source=request.Source)
        kind, _, name = request.Source.identifier.partition("://")
        if kind == "docker-image":
            digest, config = await self._image(build, name, request.ResolveMode, request.Platform)
            answer.Image.Digest = digest
            if not request.Image.NoConfig:
                answer.Image.Config = config
        await stream.send_message(answer)

    async def _image(self, build: "Build", name: str, mode: str, platform: "Any") -> tuple[str, bytes]:
        """The digest of an image's manifest, and its configuration."""

        async def credentials(domain: str) -> Credentials:
            if not build.request.Session:
                return Credentials()
            found: Credentials = await (await self.builds.session(build)).credentials(domain)
            return found

        parts = (platform.OS, platform.Architecture, platform.Variant)
        return await solve_metadata.image(
            self.builds.engine, name, mode, "/".join(part for part in parts if part), credentials
        )


def _repeated(build: "Build", code: int, message: str) -> Exception:
    """The error that a client returns: where it is the one that it had from us, that very one, with all it knows."""
    if build.failed is not None and str(build.failed) in message:
        return build.failed
    try:
        status = Status(code)
    except ValueError:
        status = Status.UNKNOWN
    return GRPCError(status, message)

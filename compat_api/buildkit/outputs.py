"""Where the result of a build goes."""

from compat_api.buildkit.wire import control_pb2 as control
from service.engine import solve_export
from service.engine.solving import Exporter
from service.errors import NotImplemented_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from compat_api.buildkit.builds import Build, Builds
    from service.engine.solving import Solved


def wanted(request: control.SolveRequest) -> list[control.Exporter]:
    """The outputs that are asked for; clients that know several say the first one twice."""
    if request.Exporters or not request.ExporterDeprecated:
        return list(request.Exporters)
    return [control.Exporter(Type=request.ExporterDeprecated, Attrs=request.ExporterAttrsDeprecated)]


def check(request: control.SolveRequest) -> None:
    """Raises SolveFailed, NotImplemented_ for an output that cannot be served as it is asked for."""
    for output in wanted(request):
        solve_export.check(Exporter(output.Type, dict(output.Attrs)))
    has_inline_cache(request)


def has_inline_cache(request: control.SolveRequest) -> bool:
    """Whether the cache goes into the image. Raises NotImplemented_ for any other way to export it."""
    for cache in request.Cache.Exports:
        if cache.Type != "inline":
            raise NotImplemented_(f"cache export of type {cache.Type} is not supported: inline is")
    return bool(request.Cache.Exports)


async def export(builds: "Builds", build: "Build", solved: "Solved", metadata: "Mapping[str, bytes]") -> dict[str, str]:
    """Give a result to all outputs; what they say about it. `metadata`: what the client returned beside it."""
    if solved.is_answer:
        return build.answer
    build.result = solved
    inline = has_inline_cache(build.request)
    for number, output in enumerate(wanted(build.request)):
        exporter = Exporter(output.Type, dict(output.Attrs), number, inline, metadata)
        session = await builds.session(build)
        build.answer.update(await builds.solver.export(builds.engine, solved, exporter, session, build.progress))
    return build.answer

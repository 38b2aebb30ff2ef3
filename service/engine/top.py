"""top: the processes of a container as the host's ps shows them (API: ContainerTop). Blocking: call it in a thread."""

from service import bell, process
from service.engine import events
from service.errors import Conflict, SystemFailure
from service.settings import find_program
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine

    Listing = tuple[list[str], list[list[str]]]  # titles, rows

_BLANKS = " \t\n\f\r"
_LONGEST_ARGUMENT = 131072  # bytes that execve(2) takes in one: some 18,000 pids


def top(engine: "Engine", reference: str, arguments: str) -> "Listing":
    """Titles and rows of `ps <arguments>` for the container's processes.

    Raises NotFound, Conflict when it does not run, SystemFailure when ps refuses or its output has no column PID.
    """
    from service.runtime import runc

    wanted = (arguments or "-ef").split(" ")
    _check_titles(arguments)
    container = containers.find(engine.store, reference)
    container_id, status = container["record"]["Id"], container["state"]["status"]
    if status == "restarting":
        raise Conflict(f"Container {container_id} is restarting, wait until the container is running")
    if status not in ("running", "paused"):
        raise Conflict(f"container {container_id} is not running")
    pids = runc.ps(engine.settings, container_id)
    listing = parse(_ps(engine, wanted, pids), frozenset(pids))
    with engine.store.write():
        events.container(engine.store, container["record"], "top")
    bell.ring(engine.settings.bell)
    return listing


_BLANK, _WORD = f"[{_BLANKS}]", f"[^{_BLANKS}]"


def _check_titles(arguments: str) -> None:
    """No other column may be called PID: rows are chosen by that name (moby#24358)."""
    import re

    for name, title in re.findall(f"{_BLANK}+({_WORD}*)={_BLANK}*(PID{_WORD}*)", arguments):
        if name != "pid":
            raise SystemFailure(f'specifying "{name}={title}" is not allowed')


def _ps(engine: "Engine", wanted: list[str], pids: list[int]) -> str:
    """What ps writes. Asked for the container's pids at first; some options exclude that, then for all."""
    try:
        argv = [find_program("ps"), *wanted]
    except FileNotFoundError:
        raise SystemFailure('ps: exec: "ps": executable file not found in $PATH') from None
    if any("\0" in word for word in wanted):
        raise SystemFailure(f"ps: fork/exec {argv[0]}: invalid argument")
    environment = engine.settings.environment()
    chosen = "-q" + ",".join(str(pid) for pid in pids)
    finished = None
    if len(chosen) < _LONGEST_ARGUMENT:
        finished = process.run([*argv, chosen], environment=environment)
    if finished is None or finished.code:
        finished = process.run(argv, environment=environment)
    if finished.code:
        said = finished.stderr.decode("utf-8", "replace").partition("\n")[0]
        raise SystemFailure(f"ps: {said or f'exit status {finished.code}'}")
    return finished.stdout.decode("utf-8", "replace")


def parse(output: str, pids: "frozenset[int]") -> "Listing":
    """The rows of ps output whose PID is one of `pids`, and the thread rows (PID `-`) that follow them."""
    lines = output.split("\n")
    titles = _fields(lines[0])
    if "PID" not in titles:
        raise SystemFailure("Couldn't find PID field in ps output")
    column, rows, inside = titles.index("PID"), [], False
    for line in lines[1:]:
        fields = _fields(line)
        if not fields:
            continue
        if len(fields) <= column:
            raise SystemFailure(f"Unexpected row in ps output: {line}")
        if fields[column] != "-":
            try:
                inside = int(fields[column]) in pids
            except ValueError:
                raise SystemFailure(
                    f"Unexpected pid '{fields[column]}': strconv.Atoi: parsing \"{fields[column]}\": invalid syntax"
                ) from None
        if inside:
            last = len(titles) - 1
            rows.append([*fields[:last], " ".join(fields[last:])])
    return titles, rows


def _fields(line: str) -> list[str]:
    """The words of a line; only ASCII blanks part them (a command may hold others)."""
    for blank in _BLANKS[1:]:
        line = line.replace(blank, " ")
    return [field for field in line.split(" ") if field]

"""The OCI runtimes that containers may ask for by name: runc, and those that daemon.json names.

A start leaves the program that it takes as a link in the container's run directory (`runc.program`): whoever deals with
the container later, the exit hook too, finds it there, whatever daemon.json says by then.
"""

import os

from service.daemon_json import STOCK_RUNTIMES
from service.errors import InvalidParameter
from service.runtime import runc
from service.settings import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.daemon_json import DaemonJson, Runtime
    from service.settings import Settings


def check(name: str, said: "DaemonJson | None") -> None:
    """Raises InvalidParameter for a name that nobody has given, and for a runtime that is no program."""
    if name in STOCK_RUNTIMES:
        return
    if said is None or name not in said.runtimes:
        raise InvalidParameter(f"unknown or invalid runtime name: {name}")
    if not said.runtimes[name].path:
        raise InvalidParameter(f"runtime {name}: this engine runs no shims (runtimeType), only programs (path)")
    if said.runtimes[name].arguments:  # as dockerd, which looks for the program of no other before a start
        try:
            _found(said.runtimes[name].path)
        except FileNotFoundError as error:
            raise InvalidParameter(f"error while looking up the specified runtime path: {error}") from None


def choose(settings: "Settings", container_id: str, name: str, said: "DaemonJson") -> None:
    """Have a container's start take the runtime of that name. Its run directory is there; it does not run.

    Raises as `check`, StartRefused when the program is not there.
    """
    check(name, said)
    link = runc.chosen(settings, container_id)
    try:
        os.unlink(link)
    except FileNotFoundError:
        pass
    if name in said.runtimes:
        os.symlink(_program(settings, container_id, said.runtimes[name]), link)


def _found(program: str) -> str:
    """The full path of a program. Raises FileNotFoundError in Go's words."""
    try:
        path = find_program(program)
        os.stat(path)
    except FileNotFoundError:
        why = f"stat {program}: no such file or directory" if "/" in program else "executable file not found in $PATH"
        raise FileNotFoundError(f'exec: "{program}": {why}') from None
    return path


def _program(settings: "Settings", container_id: str, runtime: "Runtime") -> str:
    """The full path of what to run; for a runtime with arguments a script beside the link, as dockerd has one."""
    try:
        path = _found(runtime.path)
    except FileNotFoundError as error:
        raise runc.failure(f"unable to retrieve OCI runtime error: {error}") from None
    if not runtime.arguments:
        return path
    script = runc.chosen(settings, container_id) + ".sh"
    with open(script, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {path} {" ".join(runtime.arguments)} "$@"\n')
    os.chmod(script, 0o700)
    return script

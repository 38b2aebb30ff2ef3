"""What crowds cost: many containers listed, many started at once; and what one exec session costs without the CLI."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.wire import Answer, Wire, request

_AT_ONCE = 8  # clients that set up and clear away


def call(path: str, line: str, body: Any = None) -> Answer:
    """One request on a connection of its own. Raises AssertionError when it fails."""
    method, target = line.split(" ", 1)
    raw = b"" if body is None else json.dumps(body).encode()
    headers = {"Connection": "close", **({"Content_Type": "application/json"} if raw else {})}
    with Wire(path, 300) as wire:
        wire.send(request(f"{method} /v1.45{target}", raw, **headers))
        answer = wire.answer()
    assert answer.status < 400, (line, answer.body)
    return answer


def together(work: Callable[[str], object], over: Sequence[str], clients: int) -> None:
    """`work(item)` for each item, by that many threads. Raises the first error of any."""
    left = list(reversed(over))
    errors: list[Exception] = []

    def serve() -> None:
        while left and not errors:
            try:
                work(left.pop())
            except IndexError:
                return
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=serve) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def crowd(path: str, count: int, *command: str) -> Iterator[list[str]]:
    """That many created containers of busybox; their names. Removed at the end, running or not."""
    names = [f"crowd-{number}" for number in range(count)]
    asked = {"Image": "busybox", "Cmd": command, "Labels": {"bench": "crowd"}, "ExposedPorts": {"80/tcp": {}}}
    try:
        together(lambda name: call(path, f"POST /containers/create?name={name}", asked), names, _AT_ONCE)
        yield names
    finally:
        together(lambda name: call(path, f"DELETE /containers/{name}?force=1&v=1"), names, _AT_ONCE)


def listed(path: str, count: int) -> float:
    """Milliseconds of a whole list of all containers, of which there are at least `count`."""
    begun = time.perf_counter()
    body = call(path, "GET /containers/json?all=1").body
    took = (time.perf_counter() - begun) * 1000
    assert len(json.loads(body)) >= count
    return took


def started_at_once(path: str, names: Sequence[str]) -> float:
    """Milliseconds until all of them run, each asked for by a client of its own at the same moment."""
    begun = time.perf_counter()
    together(lambda name: call(path, f"POST /containers/{name}/start"), names, len(names))
    return (time.perf_counter() - begun) * 1000


def exec_session(path: str, name: str) -> float:
    """Milliseconds of `true` in a running container over the API: create, start attached until its end, inspect."""
    begun = time.perf_counter()
    asked = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
    session = call(path, f"POST /containers/{name}/exec", asked).json["Id"]
    call(path, f"POST /exec/{session}/start", {"Detach": False, "Tty": False})
    while call(path, f"GET /exec/{session}/json").json["Running"]:
        pass  # dockerd's stream may end before its books are closed
    return (time.perf_counter() - begun) * 1000

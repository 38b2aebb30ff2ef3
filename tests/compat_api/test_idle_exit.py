"""No client is lost when the process leaves: hammered across many idle exits.

The product's own activator stands for systemd here (tests/system does a smaller round under the real one). The window
is short, and clients fire in volleys timed to fall near its end.
"""

import collections
import os
import random
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.wire import Wire, WireService, request

WINDOW = 0.06  # seconds
LONGEST = 100.0  # seconds for one kind of client
SILENCE = WINDOW * 3  # of a late speaker, at most
REQUESTS = (
    request("HEAD /_ping"),
    request("GET /v1.41/test/short"),
    request("POST /test/start", Content_Length="0"),
    request("POST /test/create", b'{"Name":"x"}', Content_Type="application/json"),
)

Counts = collections.Counter[str]


@pytest.fixture
def service() -> Iterator[WireService]:
    with WireService(activated=True, idle_seconds=WINDOW) as running:
        yield running


def starts(service: WireService) -> int:
    """How often the service was started."""
    return service.log().count("activator: started ")


class Client(threading.Thread):
    """One client, working until told to stop. What goes wrong is counted by kind in `lost`."""

    def __init__(
        self, service: WireService, number: int, work: "Callable[[Client], None]", pause: float, begun: float
    ) -> None:
        super().__init__(daemon=True)
        self.service, self.work, self.pause = service, work, pause
        self.stop = threading.Event()
        self.jitter, self.volley = random.Random(number), random.Random(1)
        self.at, self.sent = begun, REQUESTS[0]
        self.done = 0
        self.lost: Counts = collections.Counter()
        self.kept: Wire | None = None

    def run(self) -> None:
        while not self.stop.is_set():
            while self.at < time.monotonic():  # volleys that were missed are left out: all clients keep in step
                gap = self.volley.uniform(WINDOW, WINDOW * 1.9) + self.volley.choice((0.0, 0.02, 0.06))
                self.at += gap + self.pause
                (self.sent,) = self.volley.choices(
                    REQUESTS, (6, 6, 2, 1)
                )  # the last two cost a life the loop's imports
            time.sleep(max(0.0, self.at + self.jitter.uniform(-0.006, 0.006) - time.monotonic()))
            try:
                self.work(self)
            except (OSError, EOFError, AssertionError) as error:
                self.lost[repr(error)] += 1
        if self.kept is not None:
            self.kept.socket.close()

    def ask(self, wire: Wire) -> None:
        """One request and its answer."""
        wire.send(self.sent)
        answer = wire.answer(head_only=self.sent.startswith(b"HEAD"))
        assert answer.status in (200, 201, 204), answer.status
        self.done += 1


def new_connection(client: Client) -> None:
    """A connection for each request."""
    with client.service.connect() as wire:
        client.ask(wire)


def late_speaker(client: Client) -> None:
    """Connects, keeps silent for longer than the window, then asks."""
    with client.service.connect() as wire:
        time.sleep(client.jitter.uniform(0, SILENCE))
        client.ask(wire)


def kept_alive(client: Client) -> None:
    """One connection for many requests; it looks before each whether the other side has closed, as Go does."""
    if client.kept is not None and select.select([client.kept.socket], [], [], 0)[0]:
        assert client.kept.rest() == b"", "something came that nobody asked for"
        client.kept.socket.close()
        client.kept = None
    client.kept = client.kept or client.service.connect()
    try:
        client.ask(client.kept)
    except BrokenPipeError:  # closed between the look and the write: nothing was taken, a client sends it again
        client.kept.socket.close()
        client.kept = client.service.connect()
        client.ask(client.kept)


def docker(client: Client) -> None:
    """The real CLI."""
    done = subprocess.run(
        ["docker", "-H", f"unix://{client.service.path}", "ps", "--all", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    client.done += 1


# One kind at a time (together they would keep the process awake): how many clients, in how many lives of the process,
# and the seconds that a volley takes besides its gap.
ROUNDS: tuple[tuple[Callable[[Client], None], int, int, float], ...] = (
    (new_connection, 8, 30, 0.0),
    (late_speaker, 8, 15, SILENCE),
    (kept_alive, 8, 25, 0.0),
    (docker, 2, 8, 0.05),
)


def hammer(service: WireService, kind: Callable[[Client], None], count: int, lives: int, pause: float) -> list[Client]:
    """Let `count` clients of one kind work for `lives` starts of the service."""
    begun = time.monotonic()
    clients = [Client(service, number, kind, pause, begun) for number in range(count)]
    goal, end = starts(service) + lives, time.monotonic() + LONGEST
    for client in clients:
        client.start()
    while starts(service) < goal and time.monotonic() < end:
        time.sleep(0.05)
    for client in clients:
        client.stop.set()
    for client in clients:
        client.join(30)
        assert not client.is_alive()
    return clients


@pytest.mark.timeout(600)
def test_no_client_is_lost_across_idle_exits(service: WireService) -> None:
    begun = time.monotonic()
    lost: Counts = collections.Counter()
    for kind, count, lives, pause in ROUNDS:
        if kind is docker and not shutil.which("docker"):
            kind, count = new_connection, 8  # noqa: PLW2901 - the same number of lives all the same
        before = starts(service)
        clients = hammer(service, kind, count, lives, pause)
        done, lived = sum(client.done for client in clients), starts(service) - before
        print(f"{kind.__name__}: {done} answered in {lived} lives")
        lost += sum((client.lost for client in clients), collections.Counter[str]())
        assert lived >= lives // 2, "it hardly left: nothing was tried"
        assert done >= lives // 2
    print(f"{starts(service)} lives in {time.monotonic() - begun:.1f} s")
    assert not lost, f"{lost}\n{service.log()[-3000:]}"
    assert "Traceback" not in service.log(), service.log()


def test_a_silent_follower_holds_the_process_and_a_kept_connection_does_not() -> None:
    with WireService(activated=True, idle_seconds=WINDOW) as service, service.connect() as kept:
        kept.send(request("GET /_ping"))
        assert kept.answer().status == 200
        with service.connect() as follower:
            follower.send(request("GET /test/follow?key=x"))
            assert follower.head().status == 200
            begun = starts(service)
            time.sleep(WINDOW * 10)
            assert service.log().count(" ended with ") == begun - 1, "the process left a follower behind"
        end = time.monotonic() + 30
        while service.log().count(" ended with ") < begun:
            assert time.monotonic() < end, "the process stays although nobody needs it"
            time.sleep(0.02)
        assert kept.rest() == b""


def test_a_hijacked_connection_holds_the_process() -> None:
    with WireService(activated=True, idle_seconds=WINDOW) as service, service.connect() as wire:
        wire.send(request("POST /test/echo", Connection="Upgrade", Upgrade="tcp"))
        assert wire.head().status == 101
        time.sleep(WINDOW * 8)
        wire.send(b"x")
        assert wire.exactly(9) == b"\x01\0\0\0\0\0\0\1x"
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest().endswith(b"end")


def test_nobody_woke_it_for_long() -> None:
    """The client that woke it gave up before it could look: it leaves by itself."""
    with WireService(activated=True, idle_seconds=WINDOW) as service:
        end = time.monotonic() + 30
        while " ended with 0" not in service.log():
            assert time.monotonic() < end, service.log()
            time.sleep(0.02)


def test_own_socket_stays() -> None:
    """Without somebody to wake a successor there is no idle exit."""
    with WireService(idle_seconds=WINDOW) as service:
        time.sleep(WINDOW * 6)
        assert service.process.poll() is None
        assert service.ask("GET /_ping").status == 200
        service.ask("GET /test/later")
        time.sleep(WINDOW * 6)
        assert service.process.poll() is None
        assert os.path.exists(service.path)

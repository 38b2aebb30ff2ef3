"""When layers are brought to the disk: at once, or when builds have been quiet for a while."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.engine import flushing
from service.engine.engine import Engine
from service.settings import Settings


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "lib").mkdir()
    return Engine(Settings({"MOORAGE_ROOT": str(tmp_path / "lib"), "MOORAGE_RUN": str(tmp_path / "run")}))


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Waits for the next flush; the moment of it, on the monotonic clock."""
    moments: list[float] = []
    arrived = threading.Semaphore(0)

    def note(_: Engine) -> None:
        moments.append(time.monotonic())
        arrived.release()

    def wait() -> float:
        assert arrived.acquire(timeout=60), "nothing was flushed"
        return moments.pop(0)

    monkeypatch.setattr(flushing, "now", note)
    return wait


def left(engine: Engine) -> None:
    """The thread has ended; till then the process stays."""
    end = time.monotonic() + 60
    while engine.flusher.running:
        assert time.monotonic() < end, "the thread goes on"
        time.sleep(0.01)


def test_a_build_puts_the_flush_of_an_earlier_one_off(engine: Engine, flushed: Callable[[], float]) -> None:
    for _ in range(4):
        flushing.soon(engine, 0.5)
        last = time.monotonic()
        time.sleep(0.1)
    assert engine.flusher.running
    assert flushed() >= last + 0.5
    left(engine)


def test_it_is_not_put_off_for_ever(
    engine: Engine, flushed: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "_LATEST_SECONDS", 0.5)
    ended = threading.Event()

    def build_on() -> None:
        while not ended.wait(0.05):
            flushing.soon(engine, 10.0)

    building = threading.Thread(target=build_on)
    building.start()
    try:
        first = flushed()
        assert flushed() >= first + 0.4  # the builds after it are one more reason
    finally:
        ended.set()
        building.join()


def test_who_does_not_wait_takes_the_others_along(engine: Engine, flushed: Callable[[], float]) -> None:
    flushing.soon(engine, 600.0)
    flushing.soon(engine)
    assert flushed() <= time.monotonic()
    left(engine)

"""Programs that fork for every piece of work, as `service/build_files.py` does: real processes, watched and ended."""

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import jsontext
from service.errors import SystemFailure
from service.forking import Forker
from service.settings import Settings

PATH = str(Path(__file__).parents[2] / "service/build_files.py")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    if os.geteuid():
        pytest.skip("needs root: it makes mounts")
    return Settings({"MOORAGE_ROOT": str(tmp_path), "MOORAGE_RUN": str(tmp_path)})


@pytest.fixture
def forker() -> Iterator[Forker]:
    made = Forker(PATH, does="works on files")
    yield made
    made.end()


class Work:
    """One job at work: a COPY that waits to hear what it shall copy."""

    def __init__(self, settings: Settings, forker: Forker, folder: Path) -> None:
        for name in ("staging", "target", "source"):
            (folder / name).mkdir(parents=True)
        (folder / "source/f").write_text("moles")
        place = {"layers": [], "upper": "", "work": ""}
        job = {
            "do": "copy",
            "staging": str(folder / "staging"),
            "target": {**place, "upper": str(folder / "target")},
            "sources": [[{**place, "path": str(folder / "source")}, ["f"]]],
            "destination": "/g",
            "later": True,
        }
        asked = os.memfd_create("job")
        os.write(asked, jsontext.dump_bytes(job))
        os.lseek(asked, 0, os.SEEK_SET)
        self.answers, answering = os.pipe()
        nowhere = os.open("/dev/null", os.O_WRONLY)
        taken, self.feed = os.pipe()
        try:
            self.pid, self.known = forker.begin(settings, b"+", [asked, answering, nowhere, taken])
        finally:
            for fd in (asked, answering, nowhere, taken):
                os.close(fd)

    def answer(self) -> bytes:
        return os.read(self.answers, 65536)

    def ended(self, seconds: float = 10.0) -> bool:
        return bool(select.select([self.known], [], [], seconds)[0])

    def close(self) -> None:
        for fd in (self.answers, self.feed, self.known):
            os.close(fd)


def test_several_work_at_the_same_time(settings: Settings, forker: Forker, tmp_path: Path) -> None:
    works = [Work(settings, forker, tmp_path / str(number)) for number in range(5)]
    assert len({work.pid for work in works}) == 5
    for number, work in reversed(list(enumerate(works))):
        assert b'"found"' in work.answer()
        os.write(work.feed, b'{"wanted": [0]}\n')
        assert work.answer() == b'{"done":true}\n'
        assert work.ended()
        assert (tmp_path / f"{number}/target/g").read_text() == "moles"
        work.close()


def test_one_can_be_ended_and_the_others_go_on(settings: Settings, forker: Forker, tmp_path: Path) -> None:
    first, second = (Work(settings, forker, tmp_path / name) for name in ("first", "second"))
    signal.pidfd_send_signal(first.known, signal.SIGKILL)
    assert first.ended()
    assert second.answer()
    assert not second.ended(0)
    os.close(second.feed)  # who asked has left: there is nothing to copy
    second.feed = os.open("/dev/null", os.O_RDONLY)
    assert second.ended()
    first.close()
    second.close()
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        assert str(tmp_path) not in file.read(), "what they had mounted was theirs alone"


def test_a_program_that_was_killed_is_started_again(settings: Settings, forker: Forker, tmp_path: Path) -> None:
    work = Work(settings, forker, tmp_path / "first")
    program = int(Path(f"/proc/{work.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(program, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    again = Work(settings, forker, tmp_path / "second")
    for each in (work, again):
        assert b'"found"' in each.answer(), "what was begun goes on"
        each.close()


def test_one_that_does_not_start_is_told(settings: Settings, tmp_path: Path) -> None:
    missing = Forker(str(tmp_path / "nothing.py"), does="works on files")
    with pytest.raises(SystemFailure, match="the program that works on files does not start"):
        missing.begin(settings, b"+", [])

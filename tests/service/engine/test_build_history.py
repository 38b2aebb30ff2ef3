"""How many finished builds are kept, and what becomes of their blobs."""

import os
import time
from pathlib import Path

import pytest

from service.engine import build_history
from service.engine.build_history import BYTES, ENTRIES, MOST, SECONDS, Record
from service.engine.engine import Engine
from service.errors import NotFound
from service.settings import Settings

DAY = 86400 * 10**9


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine with an empty store."""
    made = Engine(Settings({"MOORAGE_ROOT": str(tmp_path / "lib"), "MOORAGE_RUN": str(tmp_path / "run")}))
    made.open()
    return made


def keep(engine: Engine, ref: str, ended_ns: int, said: bytes = b"", *, pinned: bool = False) -> Record:
    """A finished build that has said something."""
    record = Record(ref, ended_ns - 1, ended_ns, pinned=pinned)
    record.logs = build_history.blob(engine, "text/plain", said or ref.encode())
    build_history.keep(engine, record)
    return record


def kept(engine: Engine) -> list[str]:
    """Which are there."""
    return [record.ref for record in build_history.records(engine)]


def test_a_record_comes_back_as_it_was_kept(engine: Engine) -> None:
    record = Record("r", 1, 2, "f", {"a": "b"}, [("moby", {"name": "x"})], {"k": "v"}, (2, "failed"), 3, 2, 1, 4)
    record.attestations = [build_history.blob(engine, "m", b"made of", {"x": "y"})]
    record.results = {"0": build_history.blob(engine, "n", b"image")}
    build_history.keep(engine, record)
    found = build_history.find(engine, "r")
    assert found is not None
    found.outputs = [(type, attributes) for type, attributes in found.outputs]
    assert found == record
    assert build_history.content(engine, record.attestations[0].digest) == b"made of"


def test_old_ones_make_room(engine: Engine) -> None:
    now = time.time_ns()
    old = now - (SECONDS + 60) * 10**9
    keep(engine, "pinned", old - DAY, pinned=True)
    for number in range(ENTRIES + 2):
        keep(engine, f"old{number}", old + number)
    assert len(kept(engine)) == ENTRIES + 1
    assert {"old0", "old1"}.isdisjoint(kept(engine))
    keep(engine, "new", now)
    assert "old2" not in kept(engine)
    assert kept(engine)[0] == "new"
    assert "pinned" in kept(engine)


def test_young_ones_are_bounded_as_well(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_history, "MOST", 3)
    now = time.time_ns()
    for number in range(5):
        keep(engine, f"r{number}", now + number)
    assert kept(engine) == ["r4", "r3", "r2"]
    monkeypatch.setattr(build_history, "BYTES", 5)
    keep(engine, "s", now + 9, b"1234")
    assert kept(engine) == ["s"]
    assert MOST > ENTRIES
    assert BYTES > 1 << 20


def test_blobs_go_with_the_last_record_that_needs_them(engine: Engine) -> None:
    now = time.time_ns()
    digest = keep(engine, "a", now, b"the same").logs.digest  # type: ignore[union-attr]  # keep has made one
    keep(engine, "b", now, b"the same")
    folder = engine.settings.build_records
    path = f"{folder}/{digest.partition(':')[2]}"
    os.utime(path, (1, 1))  # not written just now
    Path(f"{folder}/.unfinished").write_text("x")
    os.utime(f"{folder}/.unfinished", (1, 1))
    build_history.remove(engine, "a")
    assert build_history.content(engine, digest) == b"the same"
    assert not os.path.exists(f"{folder}/.unfinished")
    build_history.remove(engine, "b")
    assert not os.path.exists(path)
    with pytest.raises(NotFound):
        build_history.content(engine, digest)
    with pytest.raises(NotFound):
        build_history.remove(engine, "b")


def test_a_blob_that_a_power_cut_has_emptied_is_missing(engine: Engine) -> None:
    record = keep(engine, "a", time.time_ns())
    assert record.logs is not None
    Path(f"{engine.settings.build_records}/{record.logs.digest.partition(':')[2]}").write_bytes(b"")
    with pytest.raises(NotFound, match=record.logs.digest):
        build_history.content(engine, record.logs.digest)
    assert kept(engine) == ["a"]

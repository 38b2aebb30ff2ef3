"""The store: names are unique, an exit is claimed once, transactions are whole, and many processes share it."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from service import ids
from service.errors import Conflict, InvalidParameter, NotFound
from service.store import containers, events, meta
from service.store.database import Database


def _record(name: str, container_id: str = "") -> Any:
    return {
        "Id": container_id or ids.new_id(),
        "Name": name,
        "Created": "2026-01-01T00:00:00Z",
        "Path": "sh",
        "Args": [],
        "Image": "sha256:" + "0" * 64,
        "Config": {"Labels": {}},
        "HostConfig": {},
        "EndpointsConfig": {},
        "Mounts": [],
        "Layers": [],
        "Platform": "linux",
    }


@pytest.fixture
def store(tmp_path: Path) -> Database:
    return Database(str(tmp_path / "moorage.db"))


def _insert(store: Database, record: Any) -> str:
    with store.write():
        containers.insert(store, record, 1)
    return str(record["Id"])


def test_the_file_is_only_ours(store: Database) -> None:
    meta.get(store, "x")
    assert os.stat(store.path).st_mode & 0o777 == 0o600


def test_a_name_is_given_once(store: Database) -> None:
    first = _insert(store, _record("web"))
    with pytest.raises(Conflict, match=f'The container name "/web" is already in use by container "{first}"'):
        _insert(store, _record("web"))
    assert len(containers.newest_first(store)) == 1


def test_references(store: Database) -> None:
    one = _insert(store, _record("one", "ab" + "1" * 62))
    two = _insert(store, _record("two", "ab" + "2" * 62))
    named = _insert(store, _record("ab1", "cd" + "3" * 62))
    for reference, wanted in ((one, one), ("one", one), ("/two", two), ("ab2", two), ("ab1", named), ("cd", named)):
        assert containers.resolve(store, reference) == wanted
    with pytest.raises(InvalidParameter, match="multiple IDs found with provided prefix: ab"):
        containers.resolve(store, "ab")
    for unknown in ("nope", "ef", "AB", "%", "ab_"):
        with pytest.raises(NotFound, match=f"No such container: {unknown}"):
            containers.resolve(store, unknown)


def test_an_exit_is_claimed_once_and_only_for_its_own_start(store: Database) -> None:
    one = _insert(store, _record("one"))
    with store.write():
        containers.set_state(store, one, status="running", generation=2, pid=7)
        assert not containers.claim_exit(store, one, 1, 0, "2026-01-01T00:00:01Z")
        assert containers.claim_exit(store, one, 2, 3, "2026-01-01T00:00:01Z")
        assert not containers.claim_exit(store, one, 2, 9, "2026-01-01T00:00:02Z")
    state = containers.get(store, one)["state"]
    assert (state["status"], state["exit_code"], state["pid"]) == ("exited", 3, 0)


def test_a_failed_transaction_leaves_nothing(store: Database) -> None:
    with pytest.raises(RuntimeError, match="half way"), store.write():  # noqa: PT012 - the block is what is tested
        containers.insert(store, _record("one"), 1)
        with store.write():  # joins the outer one
            events.append(store, 1, "container", "create", "x", {})
        raise RuntimeError("half way")
    assert containers.newest_first(store) == []
    assert events.last(store) == 0


def test_writing_outside_a_transaction_is_refused(store: Database) -> None:
    with pytest.raises(RuntimeError, match="outside"):
        meta.put(store, "a", "b")


def _hook(path: str, container_id: str, results: Any) -> None:
    store = Database(path)
    with store.write():
        claimed = containers.claim_exit(store, container_id, 1, 0, "2026-01-01T00:00:01Z")
        if claimed:
            events.append(store, 1, "container", "die", container_id, {})
    results.put(claimed)


def test_forty_processes_claim_twenty_exits(store: Database) -> None:
    known = [_insert(store, _record(f"c{number}")) for number in range(20)]
    with store.write():
        for one in known:
            containers.set_state(store, one, status="running", generation=1)
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    store.close()  # a connection must not cross a fork
    hooks = [context.Process(target=_hook, args=(store.path, one, results)) for one in known for _ in range(2)]
    for hook in hooks:
        hook.start()
    claimed = [results.get(timeout=60) for _ in hooks]
    for hook in hooks:
        hook.join()
    assert sorted(claimed) == [False] * 20 + [True] * 20
    assert len(events.after(store, 0)) == 20


def test_events_of_one_object(store: Database) -> None:
    with store.write():
        for number, actor in enumerate(("a", "b", "a")):
            events.append(store, number, "container", f"act{number}", actor, {"n": str(number)})
    assert [event["Action"] for event in events.of_actor(store, "a", 0)] == ["act0", "act2"]
    assert [event["Action"] for event in events.after(store, 1, since_ns=2)] == ["act2"]


def test_old_events_are_dropped_now_and_then(store: Database) -> None:
    with store.write():
        for number in range(events.KEPT + 10):
            events.append(store, number, "container", "create", "x", {})
    assert not events.overdue(store)
    with store.write():
        for number in range(events.KEPT // 5):
            events.append(store, number, "container", "create", "x", {})
    assert events.overdue(store)
    with store.write():
        events.trim(store)
    assert len(events.after(store, 0, limit=10**6)) == events.KEPT


def test_a_step_that_may_be_taken_back_does_not_change_what_the_next_one_promises(tmp_path: Path) -> None:
    path = str(tmp_path / "steps.db")
    database = Database(path)
    synchronous = "PRAGMA synchronous"
    full = database.row(synchronous)
    with database.write(durable=False):
        assert database.row(synchronous) != full
        with database.write():
            meta.put(database, "a", "1")
    assert database.row(synchronous) == full
    with pytest.raises(ZeroDivisionError), database.write(durable=False):
        _ = 1 / 0
    assert database.row(synchronous) == full
    assert meta.get(Database(path), "a") == "1"

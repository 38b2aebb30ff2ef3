"""A long list: what it asks of the store does not depend on how long it is, and it is right the second time as well."""

from pathlib import Path
from typing import Any

import pytest

from service.engine import container_list
from service.engine.engine import Engine
from service.ids import new_id
from service.settings import Settings
from service.store import containers
from service.store.database import Database

SECOND = 10**9


def record(number: int) -> Any:
    return {
        "Id": new_id(),
        "Name": f"many-{number}",
        "Created": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
        "Path": "sleep",
        "Args": ["1000"],
        "Image": "sha256:" + "0" * 64,
        "Config": {"Image": "busybox", "Labels": {"number": str(number)}, "Env": ["A=b"] * 20},
        "HostConfig": {"NetworkMode": "bridge", "PortBindings": {}},
        "EndpointsConfig": {"bridge": {}},
        "Mounts": [],
        "Layers": [],
        "Platform": "linux",
    }


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Settings({"MOORAGE_ROOT": str(tmp_path), "MOORAGE_RUN": str(tmp_path)}))


def fill(engine: Engine, first: int, last: int) -> None:
    with engine.store.write():
        for number in range(first, last):
            made = record(number)
            containers.insert(engine.store, made, number * SECOND)
            if number % 2:
                containers.set_state(
                    engine.store,
                    made["Id"],
                    status="exited",
                    started_at="2026-01-01T00:00:00.5Z",
                    finished_at="2026-01-01T00:00:01.5Z",
                    generation=1,
                )


def listed(engine: Engine, **filters: list[str]) -> list[Any]:
    return container_list.summaries(engine, all=True, limit=0, size=False, filters=filters)


def test_a_thousand_cost_as_many_questions_as_ten(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(method: Any) -> Any:
        def ask(self: Database, sql: str, values: Any = ()) -> Any:
            asked.append(sql)
            return method(self, sql, values)

        return ask

    monkeypatch.setattr(Database, "rows", counted(Database.rows))
    monkeypatch.setattr(Database, "row", counted(Database.row))
    counts = []
    for first, last in ((0, 10), (10, 1000)):
        fill(engine, first, last)
        for filters in ({}, {"network": ["bridge"], "label": ["number"], "name": ["many"], "publish": ["80"]}):
            asked.clear()
            found = listed(engine, **filters)
            assert len(found) == (0 if filters else last)
            counts.append(len(asked))
    assert counts[:2] == counts[2:]
    assert max(counts) <= 10


def test_the_second_list_is_the_first_but_for_what_has_changed(engine: Engine) -> None:
    fill(engine, 0, 100)
    first = listed(engine)
    assert [container["Names"] for container in first] == [[f"/many-{number}"] for number in reversed(range(100))]
    assert listed(engine) == first
    changed = containers.get(engine.store, first[0]["Id"])["record"]
    changed["Config"]["Labels"] = {"new": "label"}
    with engine.store.write():
        containers.replace_record(engine.store, changed)
        containers.delete(engine.store, first[1]["Id"])
        containers.set_state(engine.store, first[2]["Id"], status="dead")
    second = listed(engine)
    assert second[0]["Labels"] == {"new": "label"}
    assert [container["Id"] for container in second[1:]] == [container["Id"] for container in first[2:]]
    assert second[1]["State"] == "dead"
    assert second[2:] == first[3:]


def test_what_is_kept_of_records_has_its_bound(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_list, "_KNOWN", 50)
    fill(engine, 0, 20)
    for number in range(10):
        assert len(listed(engine)) == 20
        with engine.store.write():
            for shown in listed(engine):
                changed = containers.get(engine.store, shown["Id"])["record"]
                changed["Config"]["Labels"] = {"round": str(number)}
                containers.replace_record(engine.store, changed)
    assert len(engine.listed) <= 50 + 20

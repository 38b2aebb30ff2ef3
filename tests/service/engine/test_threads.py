"""Work of threads: weighed once for all who ask at the same time; slow clients keep nobody else waiting."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from service.engine import system
from service.engine.engine import Engine
from service.errors import SystemFailure
from service.settings import Settings


def test_weighed_once_for_all_who_ask_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(Settings({"MOORAGE_ROOT": str(tmp_path), "MOORAGE_RUN": str(tmp_path)}))
    weighed: list[frozenset[str]] = []
    go_on = threading.Event()

    def weigh(_: Engine, kinds: frozenset[str]) -> Any:
        weighed.append(kinds)
        assert go_on.wait(60)
        if "image" in kinds:
            raise SystemFailure("no scales")
        return {"Volumes": []}

    monkeypatch.setattr(system, "data_usage", weigh)

    async def ask() -> None:
        volumes, images = frozenset({"volume"}), frozenset({"image"})
        asked = [
            asyncio.ensure_future(system.shared_data_usage(engine, kinds))
            for kinds in (volumes, images, volumes, volumes, images)
        ]
        await asyncio.sleep(0)
        asked[0].cancel()  # its client left: the others get theirs
        go_on.set()
        first, one, two, three, other = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(first, asyncio.CancelledError)
        assert two == three == {"Volumes": []}
        assert two is not three
        assert isinstance(one, SystemFailure)
        assert isinstance(other, SystemFailure)
        assert sorted(map(sorted, weighed)) == [["image"], ["volume"]]
        assert await system.shared_data_usage(engine, volumes) == {"Volumes": []}
        assert len(weighed) == 3
        assert not engine.weighing

    asyncio.run(ask())


def test_work_at_the_pace_of_slow_clients_keeps_nobody_waiting(tmp_path: Path) -> None:
    engine = Engine(Settings({"MOORAGE_ROOT": str(tmp_path), "MOORAGE_RUN": str(tmp_path)}))
    go_on = threading.Event()

    async def ask() -> None:
        slow = [asyncio.ensure_future(engine.thread(go_on.wait, 20)) for _ in range(20)]
        try:
            assert await asyncio.wait_for(engine.thread(lambda: "quick"), 10) == "quick"
        finally:
            go_on.set()
            assert all(await asyncio.gather(*slow))

    asyncio.run(ask())

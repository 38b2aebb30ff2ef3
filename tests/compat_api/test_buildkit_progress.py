"""The progress of a build, as it is told to those who follow it."""

import asyncio

import pytest

from compat_api.buildkit import progress
from service.engine.solving import Vertex


async def test_the_end_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages have a rhythm, but clients leave only when they have been told the end."""
    monkeypatch.setattr(progress, "_RHYTHM", 3600.0)
    build = progress.Progress()
    told: list[str] = []

    async def follow() -> None:
        async for message in build.follow():
            told.extend(found.name for found in message.vertexes)

    async with asyncio.timeout(60):
        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        build.add(Vertex("sha256:a", "one"))
        await asyncio.sleep(0.05)  # it waits for more now
        assert told == []
        build.add(Vertex("sha256:b", "two"))
        build.end()
        await following
    assert told == ["one", "two"]


async def test_what_comes_meanwhile_goes_together() -> None:
    build = progress.Progress()
    messages: list[list[str]] = []

    async def follow() -> None:
        async for message in build.follow():
            messages.append([found.name for found in message.vertexes])

    async with asyncio.timeout(60):
        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        for number in range(5):
            build.add(Vertex(f"sha256:{number}", f"step {number}"))
        await asyncio.sleep(10 * progress._RHYTHM)
        assert messages == [[f"step {number}" for number in range(5)]], "told without waiting for the end"
        build.end()
        await following

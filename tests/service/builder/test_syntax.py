"""Which frontend a Dockerfile wants to be read by."""

import pytest

from service.builder.syntax import is_built_in, named


@pytest.mark.parametrize(
    ("text", "image", "line"),
    [
        ("FROM a\n", "", 0),
        ("", "", 0),
        ("# syntax=docker/dockerfile:1\nFROM a\n", "docker/dockerfile:1", 1),
        ("\ufeff#syntax = x/y:1 more\n", "x/y:1", 1),
        ("# escape=`\n# SYNTAX=x/y\n", "x/y", 2),
        ("# a comment\n# syntax=x/y\n", "", 0),
        ("\n# syntax=x/y\n", "", 0),
        ("#!/usr/bin/env x\n# syntax=x/y\n", "x/y", 2),
        ("// syntax=x/y\n", "x/y", 1),
        ('{"syntax": "x/y", "more": 1}\n', "x/y", 1),
        ('{"syntax": 1}\n', "", 0),
        ("[1]", "", 0),
        ("# syntax=x/y\r\nFROM a\r\n", "x/y", 1),
    ],
)
def test_the_frontend_that_is_named(text: str, image: str, line: int) -> None:
    assert named(text.encode()) == (image, line)


@pytest.mark.parametrize("image", ["docker/dockerfile", "docker/dockerfile:1.19-labs", "docker.io/docker/dockerfile:1",
    "docker/dockerfile-upstream:master", f"docker/dockerfile:1@sha256:{'0' * 64}"])  # fmt: skip
def test_the_frontend_that_is_built_in(image: str) -> None:
    assert is_built_in(image)


@pytest.mark.parametrize(
    "image", ["x/y", "docker/dockerfile2", "example.com/docker/dockerfile:1", "docker/dockerfile:"]
)
def test_other_frontends(image: str) -> None:
    assert not is_built_in(image)

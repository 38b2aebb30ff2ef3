"""A service process that begins sets the networks of running containers right."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.instance import Instance


@pytest.fixture
def running(moorage: Instance) -> Iterator[str]:
    """A container `box` on the default bridge and on `lan`; its id."""
    moorage.docker("network", "create", "lan")
    made = moorage.docker("run", "-d", "--name", "box", "busybox", "sleep", "600").stdout.strip()
    moorage.docker("network", "connect", "lan", "box")
    yield made
    moorage.docker("rm", "-f", "box")
    moorage.docker("network", "rm", "lan")


def test_a_deleted_bridge_and_table(moorage: Instance, running: str) -> None:
    bridge, table = moorage.bridge, moorage.nft_table
    subprocess.run(["ip", "link", "delete", bridge], check=True)
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    moorage.restart()
    assert moorage.docker("ps", "-q").stdout
    assert subprocess.run(["ip", "link", "show", bridge], capture_output=True, check=False).returncode == 0
    assert subprocess.run(["nft", "list", "table", "inet", table], capture_output=True, check=False).returncode == 0
    gateway = moorage.docker("exec", "box", "sh", "-c", "ip route | sed -n 's/^default via \\([0-9.]*\\) .*/\\1/p'")
    moorage.docker("exec", "box", "ping", "-c", "5", "-w", "60", gateway.stdout.strip())


def test_a_disconnect_that_was_killed_is_brought_to_its_end(moorage: Instance, running: str) -> None:
    network_id = moorage.docker("network", "inspect", "-f", "{{.Id}}", "lan").stdout.strip()
    moorage.kill_service()
    mark = f"{moorage.run}/containers/{running}/joining"  # what it writes before it changes anything
    with open(mark, "w", encoding="ascii") as file:
        file.write(f"disconnect {network_id}")
    shown = moorage.docker("inspect", "-f", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}", "box")
    assert shown.stdout.split() == ["bridge"]
    assert "eth1" not in moorage.docker("exec", "box", "ip", "link").stdout
    assert not os.path.exists(mark)
    moorage.docker("network", "connect", "lan", "box")
    assert "eth1" in moorage.docker("exec", "box", "ip", "link").stdout

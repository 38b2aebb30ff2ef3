"""`kill -9` of the service at any moment loses nothing and leaks nothing; containers go on without it.

What leaks is found by the fixture: when the module ends, no mount, namespace, interface, rule, control group, process
or file of the instance may remain.
"""

import json
import os
import random
import sqlite3
import subprocess
import threading
import time

import pytest

from tests.support.instance import Instance
from tests.support.ports import free_port


def names(moorage: Instance) -> list[str]:
    return moorage.docker("ps", "-a", "--format", "{{.Names}}").stdout.split()


def test_a_container_outlives_the_service(moorage: Instance) -> None:
    waits = "echo one; until [ -e /go ]; do sleep 0.1; done; echo two; exit 4"
    moorage.docker("run", "-d", "--name", "lives", "busybox", "sh", "-c", waits)
    before = json.loads(moorage.docker("inspect", "lives").stdout)
    moorage.kill_service()
    assert json.loads(moorage.docker("inspect", "lives").stdout) == before
    moorage.kill_service()
    with open(f"/proc/{before[0]['State']['Pid']}/root/go", "w", encoding="ascii"):
        pass
    assert moorage.docker("wait", "lives").stdout == "4\n"
    moorage.kill_service()
    assert moorage.docker("logs", "lives").stdout == "one\ntwo\n"
    assert moorage.docker("wait", "lives").stdout == "4\n"
    moorage.docker("rm", "lives")


def test_what_removes_itself_does_so_with_no_service_alive(moorage: Instance) -> None:
    moorage.docker("run", "-d", "--rm", "--name", "goes", "busybox", "sleep", "1")
    moorage.kill_service()
    moorage.until(lambda: os.listdir(f"{moorage.root}/containers") == [], 60, "it does not go")
    assert moorage.service_pid() is None, "nobody was to wake the service"
    assert "goes" not in names(moorage)


def test_a_restart_policy_acts_with_no_service_alive(moorage: Instance) -> None:
    moorage.docker(
        "run", "-d", "--name", "again", "--restart", "on-failure:3", "busybox", "sh", "-c", "sleep 0.4; false"
    )
    moorage.kill_service()

    def restarted() -> bool:
        store = sqlite3.connect(f"{moorage.root}/moorage.db", timeout=60)
        [[count, status]] = store.execute("SELECT restart_count, status FROM containers WHERE name = 'again'")
        store.close()
        return (count, status) == (3, "exited")

    moorage.until(restarted, 60, "it was not started three times more")
    assert moorage.service_pid() is None, "nobody was to wake the service"
    state = json.loads(moorage.docker("inspect", "again").stdout)[0]
    assert (state["RestartCount"], state["State"]["Status"]) == (3, "exited")
    moorage.docker("rm", "again")


@pytest.mark.parametrize("moment", range(8))
@pytest.mark.parametrize("verb", ["create", "start", "exec"])
def test_killed_in_the_middle(moorage: Instance, verb: str, moment: int) -> None:
    """At eight moments within the verb: what the client was told is true, what it was not told is whole or absent."""
    name = f"{verb}{moment}"
    if verb != "create":
        moorage.docker("create", "--name", name, "busybox", "sleep", "1000")
    if verb == "exec":
        moorage.docker("start", name)
    moorage.docker("version")  # awake: what is measured is the verb
    arguments = {
        "create": ("create", "--name", name, "busybox", "sleep", "1000"),
        "start": ("start", name),
        "exec": ("exec", name, "true"),
    }[verb]
    killer = threading.Timer(0.02 + moment * 0.015, moorage.kill_service)
    killer.start()
    try:
        done = moorage.docker(*arguments, check=False)
        killer.join()
        there = name in names(moorage)
        if verb == "create":
            assert there or done.returncode, "told of a container that is not there"
        else:
            state = json.loads(moorage.docker("inspect", name).stdout)[0]["State"]
            assert state["Running"] or verb == "start"
            assert state["Running"] or done.returncode, "told of a start that did not happen"
        if there:
            moorage.docker("start", name)
            assert moorage.docker("exec", name, "echo", "alive").stdout == "alive\n"
    finally:
        killer.join()
        moorage.docker("rm", "-f", name)
    assert name not in names(moorage)


def test_a_create_killed_while_it_filled_volumes(moorage: Instance) -> None:
    """It had its file system mounted to copy from, and was not registered yet."""
    moorage.docker("version")
    place = f"{moorage.run}/containers/{'ab' * 32}/rootfs"
    os.makedirs(place)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    moorage.kill_service()
    assert "ab" * 6 not in moorage.docker("ps", "-aq").stdout
    moorage.until(lambda: not os.path.exists(place), 60, "what it left is still there")


def test_after_a_reboot_what_ran_has_exited(moorage: Instance) -> None:
    """No reboot here: the store is told that the container was started in another boot, and its processes are ended."""
    moorage.docker("run", "-d", "--name", "ran", "busybox", "sleep", "100")
    state = json.loads(moorage.docker("inspect", "ran").stdout)[0]["State"]
    moorage.kill_service()
    with sqlite3.connect(f"{moorage.root}/moorage.db") as store:
        store.execute("UPDATE containers SET boot_id = 'an earlier boot', generation = generation + 1")
    store.close()
    after = json.loads(moorage.docker("inspect", "ran").stdout)[0]["State"]
    assert state["Status"] == "running"
    assert (after["Status"], after["ExitCode"], after["Pid"]) == ("exited", 255, 0)
    moorage.docker("start", "ran")
    assert moorage.docker("exec", "ran", "echo", "alive").stdout == "alive\n"
    moorage.docker("rm", "-f", "ran")


def test_a_container_whose_monitor_was_killed_can_be_stopped(moorage: Instance) -> None:
    moorage.docker("run", "-d", "--name", "alone", "-p", f"127.0.0.1:{free_port()}:80", "busybox", "sleep", "1000")
    moorage.docker("run", "-d", "--rm", "--name", "goes", "busybox", "sleep", "1000")
    for name in ("alone", "goes"):
        container = json.loads(moorage.docker("inspect", name).stdout)[0]["Id"]
        with open(f"{moorage.run}/containers/{container}/conmon.pid", encoding="ascii") as file:
            os.kill(int(file.read()), 9)
    moorage.docker("stop", "-t", "1", "alone", "goes")
    state = json.loads(moorage.docker("inspect", "alone").stdout)[0]["State"]
    assert (state["Status"], state["Pid"]) == ("exited", 0)
    moorage.docker("start", "alone")
    assert moorage.docker("exec", "alone", "echo", "alive").stdout == "alive\n"
    moorage.docker("rm", "-f", "alone")
    assert not {"alone", "goes"} & set(names(moorage))


STORM_SECONDS = 12.0  # of killing; what follows is looking


def test_a_storm_of_kills(moorage: Instance) -> None:
    """Four users at work, and the service is killed under them at random moments: what each is told is true, what is
    left at the end is whole, and goes away completely."""
    seed = random.randrange(1 << 32)
    print("seed", seed)  # shown by a failure
    end = time.monotonic() + STORM_SECONDS
    users = [_User(moorage, number, random.Random(seed + number), end) for number in range(4)]
    for user in users:
        user.start()
    chance = random.Random(seed)
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.05, 0.6))
        moorage.kill_service()
    for user in users:
        user.join()
    assert [user.wrong for user in users if user.wrong] == []
    assert sum(user.done for user in users) > 0, "nobody got anything done"
    moorage.kill_service()
    for name in names(moorage):
        state = json.loads(moorage.docker("inspect", name).stdout)[0]["State"]
        alive = os.path.exists(f"/proc/{state['Pid']}") if state["Pid"] else False
        assert state["Running"] == alive == (state["Status"] in ("running", "paused")), (name, state)
        if state["Running"]:
            assert moorage.docker("exec", name, "echo", "alive").stdout == "alive\n"
        moorage.docker("rm", "-f", "-v", name)
    assert names(moorage) == []
    assert moorage.docker("volume", "ls", "-q").stdout == ""
    moorage.until(lambda: moorage.leftovers() == [], 60, "something was left")


class _User(threading.Thread):
    """Creates, starts, runs commands in, stops and removes containers, over and over."""

    def __init__(self, moorage: Instance, number: int, chance: random.Random, end: float) -> None:
        super().__init__()
        self.moorage, self.number, self.chance, self.end = moorage, number, chance, end
        self.done = 0  # commands that were answered with success
        self.wrong = ""

    def run(self) -> None:
        round_ = 0
        while time.monotonic() < self.end and not self.wrong:
            round_ += 1
            self._life(f"storm-{self.number}-{round_}")

    def _docker(self, *arguments: str) -> bool:
        ran = self.moorage.docker(*arguments, check=False, timeout=120)
        self.done += ran.returncode == 0
        if "server error" in ran.stderr:
            self.wrong = f"{arguments}: {ran.stderr}"
        return ran.returncode == 0

    def _life(self, name: str) -> None:
        network = self.chance.choice(("none", "bridge"))
        volume = ("-v", "/data") if self.chance.random() < 0.3 else ()
        made = self._docker("create", "--name", name, "--network", network, *volume, "busybox", "sleep", "1000")
        started = self._docker("start", name)
        if made and started and not self._says("{{.State.Running}}", name, "true"):
            self.wrong = f"{name} was started and does not run"
        for _ in range(self.chance.randrange(3)):
            self._docker(*self.chance.choice((("exec", name, "true"), ("exec", "-d", name, "sleep", "0.1"))))
        if self.chance.random() < 0.3:
            self._docker("restart", "-t", "0", name)
        if self._docker("stop", "-t", "0", name) and not self._says("{{.State.Running}}", name, "false"):
            self.wrong = f"{name} was stopped and runs"
        if self.chance.random() < 0.8 and self._docker("rm", "-f", "-v", name):
            asked = self.moorage.docker("inspect", name, check=False)
            if asked.returncode == 0:
                self.wrong = f"{name} was removed and is there"

    def _says(self, what: str, name: str, expected: str) -> bool:
        """Whether inspect says so; true when a kill came in between and it said nothing."""
        asked = self.moorage.docker("inspect", "-f", what, name, check=False)
        return bool(asked.returncode) or asked.stdout.strip() == expected

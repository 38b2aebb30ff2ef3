"""`kill -9` of the service at any moment loses nothing and leaks nothing; containers go on without it.

What leaks is found by the fixture: when the module ends, no mount, namespace, interface, rule, control group, process
or file of the instance may remain.
"""

import json
import sqlite3
import threading
import time

import pytest

from tests.support.instance import Instance


def names(moorage: Instance) -> list[str]:
    return moorage.docker("ps", "-a", "--format", "{{.Names}}").stdout.split()


def test_a_container_outlives_the_service(moorage: Instance) -> None:
    moorage.docker("run", "-d", "--name", "lives", "busybox", "sh", "-c", "echo one; sleep 2; echo two; exit 4")
    before = json.loads(moorage.docker("inspect", "lives").stdout)
    moorage.kill_service()
    assert json.loads(moorage.docker("inspect", "lives").stdout) == before
    moorage.kill_service()
    assert moorage.docker("wait", "lives").stdout == "4\n"
    moorage.kill_service()
    assert moorage.docker("logs", "lives").stdout == "one\ntwo\n"
    assert moorage.docker("wait", "lives").stdout == "4\n"
    moorage.docker("rm", "lives")


def test_what_removes_itself_does_so_with_no_service_alive(moorage: Instance) -> None:
    moorage.docker("run", "-d", "--rm", "--name", "goes", "busybox", "sleep", "1")
    moorage.kill_service()
    time.sleep(2)
    assert moorage.service_pid() is None, "nobody was to wake the service"
    assert names(moorage) == []


def test_a_restart_policy_acts_with_no_service_alive(moorage: Instance) -> None:
    moorage.docker(
        "run", "-d", "--name", "again", "--restart", "on-failure:3", "busybox", "sh", "-c", "sleep 0.4; false"
    )
    moorage.kill_service()
    time.sleep(4)
    state = json.loads(moorage.docker("inspect", "again").stdout)[0]
    assert (state["RestartCount"], state["State"]["Status"]) == (3, "exited")
    moorage.docker("rm", "again")


@pytest.mark.parametrize("verb", ["create", "start", "exec"])
def test_killed_in_the_middle(moorage: Instance, verb: str) -> None:
    """Twelve moments within the verb: what the client was told is true, what it was not told is whole or absent."""
    for moment in range(12):
        name = f"{verb}{moment}"
        if verb != "create":
            moorage.docker("create", "--name", name, "busybox", "sleep", "100")
        if verb == "exec":
            moorage.docker("start", name)
        moorage.docker("version")  # awake: what is measured is the verb
        arguments = {
            "create": ("create", "--name", name, "busybox", "sleep", "100"),
            "start": ("start", name),
            "exec": ("exec", name, "true"),
        }[verb]
        killer = threading.Timer(0.02 + moment * 0.01, moorage.kill_service)
        killer.start()
        done = moorage.docker(*arguments, check=False)
        killer.join()
        if verb == "create":
            assert (name in names(moorage)) or done.returncode, "told of a container that is not there"
        else:
            state = json.loads(moorage.docker("inspect", name).stdout)[0]["State"]
            assert state["Running"] or verb == "start"
            assert state["Running"] or done.returncode, "told of a start that did not happen"
        if name in names(moorage):
            moorage.docker("start", name)
            assert moorage.docker("exec", name, "echo", "alive").stdout == "alive\n"
            moorage.docker("rm", "-f", name)
    assert names(moorage) == []


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

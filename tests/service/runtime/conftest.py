"""A workshop that runs real containers with real runc and conmon from a busybox root: no engine, no store."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import ids
from service.kernel import cgroup, mount, pidfd
from service.runtime import attach_socket, bundle, conmon, exec_spec, exits, facts, runc, spec
from service.settings import Settings

_APPLETS = """
    cat dd echo env false grep head hostname id kill ls mount ps pwd readlink sh sleep stat
    stty tail touch true ulimit umount unshare wc
"""


def busybox_root(root: Path) -> None:
    """A root with busybox (static), and a user `u` who is also in `wheel`."""
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in _APPLETS.split():
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc").mkdir()
    (root / "tmp").mkdir(mode=0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nwheel:x:10:root,u\nu:x:1000:\ngames:x:60:\n")


class Workshop:
    """Containers of one test; `close` ends and removes them all."""

    def __init__(self, folder: Path) -> None:
        self.rootfs = str(folder / "fs")
        busybox_root(Path(self.rootfs))
        self.parent = f"moorage-test-{os.getpid()}"
        self.settings = Settings(
            {
                "MOORAGE_ROOT": str(folder / "root"),
                "MOORAGE_RUN": str(folder / "run"),
                "MOORAGE_CGROUP_PARENT": self.parent,
            }
        )
        self.made: list[str] = []

    def record(self, *command: str, config: "dict[str, Any] | None" = None, **host: Any) -> Any:
        container_id = ids.new_id()
        return {
            "Id": container_id,
            "Name": "name",
            "Path": command[0],
            "Args": list(command[1:]),
            "Config": {"Hostname": "box", "Env": [], "User": "", "Tty": False, **(config or {})},
            "HostConfig": {"NetworkMode": "none", "IpcMode": "private", **host},
            "Mounts": host.pop("Mounts_", []),
            "Layers": [],
        }

    def create(self, record: Any, *, exit_command: "list[str] | None" = None, **given: Any) -> conmon.Created:
        container_id, settings = record["Id"], self.settings
        self.made.append(container_id)
        os.makedirs(settings.container_run(container_id), exist_ok=True)
        os.makedirs(settings.container_root(container_id), exist_ok=True)
        known = facts.gather(settings, record, rootfs=self.rootfs, **given)
        made = bundle.write(settings, container_id, spec.build_spec(record, known))
        return conmon.create(
            settings,
            container_id,
            bundle=made,
            generation=1,
            log=conmon.log_file(self.log(container_id)),
            terminal=record["Config"]["Tty"],
            open_stdin=record["Config"].get("OpenStdin", False),
            stdin_once=record["Config"].get("StdinOnce", False),
            exit_command=exit_command or [],
        ).wait()

    def log(self, container_id: str) -> str:
        return self.settings.container_root(container_id) + "/ctr.log"

    async def attach(self, record: Any, exec_id: "str | None" = None) -> attach_socket.AttachSocket:
        return await attach_socket.connect(conmon.attach_path(self.settings, record["Id"], exec_id))

    async def run(self, *command: str, config: "dict[str, Any] | None" = None, **host: Any) -> "tuple[int, str, str]":
        """Run a container to its end: exit code, stdout, stderr."""
        record = self.record(*command, config=config, **host)
        self.create(record)
        stream = await self.attach(record)
        runc.start(self.settings, record["Id"])
        out, err = await drain(stream)
        return self.exit(record["Id"]).exit_code, out, err

    async def exec(
        self, record: Any, *command: str, user: Any = None, stdin: "bytes | None" = None, **given: Any
    ) -> "tuple[int, str, str]":
        """Run an exec session to its end: exit code, stdout, stderr."""
        exec_id = ids.new_id()
        asked = {"env": [], "working_dir": "", "privileged": False, "terminal": False, **given}
        made = exec_spec.process(
            bundle.read(self.settings, record["Id"])["process"], command=command, user=user, **asked
        )
        creation = conmon.exec_(
            self.settings,
            record["Id"],
            exec_id,
            process_spec=made,
            terminal=asked["terminal"],
            open_stdin=stdin is not None,
            exit_command=[],
            attach=True,
        )
        try:
            creation.ready()
            stream = await self.attach(record, exec_id)
            creation.start()
            creation.wait()
        finally:
            creation.abandon()
        if stdin is not None:
            await stream.write_stdin(stdin)
            stream.close_stdin()
        out, err = await drain(stream)
        found = _soon(lambda: exits.read_exec(self.settings, record["Id"], exec_id))
        return found.exit_code, out, err

    def exit(self, container_id: str) -> exits.ExitRecord:
        found: exits.ExitRecord = _soon(lambda: exits.read(self.settings, container_id))
        return found

    def close(self) -> None:
        for container_id in self.made:
            runc.delete(self.settings, container_id, force=True)
            for path in Path(self.settings.container_run(container_id)).glob("**/conmon.pid"):
                pid = int(path.read_text() or 0)
                assert pidfd.wait_gone(pid, 60), f"conmon {pid} outlived its container"
        groups = cgroup.detect()
        assert cgroup.remove(groups, "/" + self.parent), "processes were left in a control group"
        inside = [entry.point for entry in mount.table() if entry.point.startswith(self.settings.run)]
        assert not inside, inside


def _soon(question: Any) -> Any:
    """The first answer that is not None, within ten seconds."""
    until = time.monotonic() + 30
    while (answer := question()) is None:
        assert time.monotonic() < until, "waited ten seconds"
        time.sleep(0.002)
    return answer


async def drain(stream: attach_socket.AttachSocket) -> "tuple[str, str]":
    """Read to the end: stdout and stderr."""
    pieces: dict[int, list[bytes]] = {1: [], 2: []}
    while (packet := await stream.read()) is not None:
        pieces[packet[0]].append(packet[1])
    stream.close()
    return b"".join(pieces[1]).decode(), b"".join(pieces[2]).decode()


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    if os.geteuid():
        pytest.skip("needs root: it makes namespaces, mounts and cgroups")
    shop = Workshop(tmp_path)
    try:
        yield shop
    finally:
        shop.close()

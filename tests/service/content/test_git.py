"""git's repositories by ssh: whose keys open them, and which hosts are believed."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.content import git
from service.errors import SystemFailure
from service.settings import Settings
from tests.support import ssh
from tests.support.instance import ROOT

SECONDS = 60.0
_FETCH = """
import sys
from service.content import git
from service.settings import Settings
checkout, home, place, agent = sys.argv[1:]
git.fetched(Settings(), checkout, home, place, agent=agent)
"""


def repository(folder: Path) -> None:
    """repo.git with one file."""
    identity = ("-c", "user.name=m", "-c", "user.email=m@x.test")
    for arguments in (
        ("init", "-q", str(folder / "tree")),
        ("-C", str(folder / "tree"), *identity, "commit", "-q", "--allow-empty", "-m", "first"),
        ("clone", "-q", "--bare", str(folder / "tree"), str(folder / "repo.git")),
    ):
        subprocess.run(["git", *arguments], check=True, timeout=SECONDS)


@pytest.mark.parametrize("place", ["ssh://h/p", "ssh://u@h:22/p", "git@h:p", "some-one@h.test:a/b#main"])
def test_what_is_reached_by_ssh(place: str) -> None:
    assert git.is_by_ssh(place)


@pytest.mark.parametrize("place", ["https://u@h/p.git", "git://h/p", "github.com/a/b", "a/b@c:d", "h:p"])
def test_what_is_not_reached_by_ssh(place: str) -> None:
    assert not git.is_by_ssh(place)


def test_keys_of_the_services_user_open_nothing(tmp_path: Path) -> None:
    """A key in root's own ~/.ssh that the server would take: ssh finds that directory without HOME."""
    home = tmp_path / "root"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    own = ssh.key_pair(home / ".ssh/id_ed25519")
    passwd = tmp_path / "passwd"
    others = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
    passwd.write_text("\n".join([f"root:x:0:0:root:{home}:/bin/sh", *others, ""]))
    repository(tmp_path)
    with ssh.Agent(tmp_path, "opener") as agent, ssh.Sshd(tmp_path, tmp_path / "s", [own, agent.public]) as server:
        place = f"git@{server.host}:repo.git"
        as_root = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"', str(passwd)]
        plain = ["ssh", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", f"git@{server.host}", "true"]
        subprocess.run([*as_root, *plain], check=True, capture_output=True, timeout=SECONDS)  # root's user could
        for number, (socket, code) in enumerate((("", 1), (agent.socket, 0))):
            (tmp_path / f"home{number}").mkdir()
            fetch = [sys.executable, "-c", _FETCH, str(tmp_path / f"to{number}"), str(tmp_path / f"home{number}")]
            done = subprocess.run(
                [*as_root, *fetch, place, socket],
                cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=SECONDS,
            )  # fmt: skip
            assert done.returncode == code, done.stderr
            assert ("Permission denied (publickey)" in done.stderr) == bool(code)
        assert not (home / ".ssh/known_hosts").exists()


def test_a_host_keeps_its_key_while_a_build_lasts(tmp_path: Path) -> None:
    home = tmp_path / "it's 100% home"
    home.mkdir()
    repository(tmp_path)
    with ssh.Agent(tmp_path, "opener") as agent:
        host = ""
        for number, complaint in enumerate(("", "Host key verification failed")):
            server = ssh.Sshd(tmp_path, tmp_path / f"server{number}", [agent.public], host)
            with server:
                host = server.host
                place = f"ssh://git@{host}{tmp_path}/repo.git"
                expected = pytest.raises(SystemFailure, match=complaint) if complaint else contextlib.nullcontext()
                with expected:
                    git.fetched(Settings(), str(tmp_path / f"to{number}"), str(home), place, agent=agent.socket)
    assert host in (home / "known_hosts").read_text()

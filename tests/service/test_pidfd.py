"""Processes that end while they are looked at."""

import errno
import os
import subprocess
import threading

import pytest

from service.kernel import pidfd


@pytest.fixture
def reaping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux before 6.9: pidfd_open(2) says EINVAL of a process that is just being reaped."""

    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "pidfd_open", refuse)


@pytest.mark.usefixtures("reaping")
def test_a_process_that_is_being_reaped_has_ended() -> None:
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    gone = child.pid
    assert pidfd.wait_gone(gone, 30)
    assert not pidfd.send_signal(gone, 9)
    with pytest.raises(ProcessLookupError):
        pidfd.opened(gone)


@pytest.mark.usefixtures("reaping")
def test_what_lives_and_is_refused_is_not_said_to_have_ended() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        pidfd.opened(os.getpid())


def test_a_thread_is_no_process() -> None:
    """The kernel's own refusal, whichever it is: a thread that runs is not taken for an ended process."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert thread.native_id
        with pytest.raises(OSError, match=r".+") as refused:
            pidfd.opened(thread.native_id)
        assert refused.value.errno in (errno.EINVAL, errno.ENOENT)
    finally:
        over.set()
        thread.join()


def test_processes_that_end_by_themselves_meanwhile() -> None:
    """Waited for and signalled while others reap them: nothing but "it has gone" may come of it."""
    for _ in range(100):
        child = subprocess.Popen(["/bin/true"])
        reaper = threading.Thread(target=child.wait)
        reaper.start()
        pidfd.send_signal(child.pid, 0)
        assert pidfd.wait_gone(child.pid, 30)
        reaper.join()

"""What the programs that run containers say of themselves: their versions, and what a runtime can do.

Each is asked once, and its words are remembered while the machine runs: a start has no 9 ms to spare for a question.
"""

import _thread
import os

from service import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings


def words(settings: "Settings", path: str, question: str) -> str:
    """What the program at `path` prints when asked (`--version`, `features`); "" when it does not know the question.

    Remembered by the program's place, time and size. Raises FileNotFoundError when the program is not there.
    """
    status = os.stat(path)
    identity = f"{path} {status.st_mtime_ns} {status.st_size}"
    memory = f"{settings.run}/stated-{os.path.basename(path)}-{question.lstrip('-')}"
    try:
        with open(memory, encoding="utf-8") as file:
            known, _, said = file.read().partition("\n")
        if known == identity:
            return said
    except FileNotFoundError:
        pass  # the first to ask
    finished = process.run([path, question], environment=settings.environment())
    said = "" if finished.code else finished.stdout.decode("utf-8", "replace")
    own = f"{memory}.{os.getpid()}.{_thread.get_ident()}"
    with open(own, "w", encoding="utf-8") as file:
        file.write(f"{identity}\n{said}")
    os.replace(own, memory)
    return said


def version(settings: "Settings", path: str) -> tuple[str, str]:
    """(version, commit) of a program that prints `… version X` and a line `commit: Y`, or ` - git.Y` behind X.

    So do runc, crun, conmon, tini and catatonit. What is not told is empty, a commit that was not known as well.
    """
    first, *lines = words(settings, path, "--version").splitlines() or [""]
    said, _, commit = first.rpartition("version ")[2].partition(" - git.")
    commits = [line.partition(":")[2].strip() for line in lines if line.startswith("commit:")]
    commit = commits[0] if commits else commit
    return said.strip(), "" if commit == "unknown" else commit

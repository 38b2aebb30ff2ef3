"""What the boot unit runs: containers are started as their restart policies say (systemd/moorage-boot.service).

The service itself need not wake: this is a short program of its own, `python -I -S service/boot.py`.
"""

import sys

sys.path[:0] = [__file__.rpartition("/service/")[0]]  # -I leaves the script's folder out

from service import packages  # noqa: E402 - the path had to be set first
from service.engine import flushing, launch, reconcile  # noqa: E402 - as above
from service.engine.engine import Engine  # noqa: E402 - as above
from service.engine.exit import restart_wanted  # noqa: E402 - as above
from service.errors import MoorageError  # noqa: E402 - as above
from service.settings import Settings  # noqa: E402 - as above
from service.store import containers  # noqa: E402 - as above


def main() -> None:
    """Reconcile, then start what is to run. One that fails does not keep the others from starting."""
    packages.find()  # a layer that a power cut has damaged is decompressed anew
    engine = Engine(Settings())
    engine.open()
    reconcile.at_start(engine)
    for container in reversed(containers.newest_first(engine.store, ("exited",))):
        record, state = container["record"], container["state"]
        # `always` starts even what a user had stopped, and so does `on-failure`; `unless-stopped` does not
        state["restart_canceled"] = False  # by the shutdown, or before it: that counts only until the next start
        if not restart_wanted(container, state["exit_code"]):
            continue
        try:
            launch.start(engine.settings, engine.store, record["Id"])
        except (MoorageError, OSError) as error:
            engine.log(f"boot: container {record['Id']} ({record['Name']}) does not start: {error}")
    flushing.now(engine)


if __name__ == "__main__":
    main()

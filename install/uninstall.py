"""`make uninstall`: containers stopped, the service gone, the machine as it was before `make run`.

Images, volumes and stopped containers stay in /var/lib/moorage unless `--purge` is given.
"""

import os
import shutil
import subprocess
import sys

from install import api, service
from install.service import say

PACKAGES = f"{service.ROOT}/.make/packages"
CHAIN = "MOORAGE-FORWARD"  # in iptables' filter table


def main(*, purge: bool) -> None:
    """Raises SystemExit with a sentence when something could not be removed."""
    if os.geteuid():
        raise SystemExit("make uninstall needs root")
    stop_containers()
    service.remove()
    for command in (
        ["ip", "link", "delete", "moorage0"],
        ["nft", "delete", "table", "inet", "moorage"],
        *(
            [program, "-w", *words]
            for program in ("iptables", "ip6tables", *legacy_filters())
            for words in (("-D", "FORWARD", "-j", CHAIN), ("-F", CHAIN), ("-X", CHAIN))
        ),
        ["firewall-cmd", "--permanent", "--zone=docker", "--remove-interface=moorage0"],
        ["firewall-cmd", "--zone=docker", "--remove-interface=moorage0"],
    ):
        if shutil.which(command[0]):
            subprocess.run(command, check=False, capture_output=True)  # fails where it was never made
    shutil.rmtree(service.RUN, ignore_errors=True)
    if purge:
        shutil.rmtree(service.STATE, ignore_errors=True)
    elif os.path.isdir(service.STATE):
        say(f"{service.STATE} is kept (make uninstall PURGE=1 removes it)")
    remove_packages()


def legacy_filters() -> list[str]:
    """The programs of iptables-legacy, where the kernel has such tables: being asked would make them."""
    found = []
    for program, names in (("iptables-legacy", "ip_tables_names"), ("ip6tables-legacy", "ip6_tables_names")):
        path = f"/proc/net/{names}"
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                found += [program] if "filter" in file.read().split() else []
    return found


def stop_containers() -> None:
    """Stop what runs, through the API: their exits are recorded and their networks and mounts taken down."""
    if not os.path.exists(f"{service.STATE}/moorage.db"):
        return
    service.start()
    status, running = api.call("GET", "/containers/json")
    if status != 200:
        raise SystemExit(f"the service cannot say what runs: {status} {running}")
    for container in running:
        say(f"stopping {container['Names'][0].lstrip('/')}")
        status, said = api.call("POST", f"/containers/{container['Id']}/stop")
        if status not in (204, 304, 404):
            raise SystemExit(f"it did not stop: {status} {said}")


def remove_packages() -> None:
    """Remove the packages that make installed, unless something else needs them by now."""
    if not os.path.exists(PACKAGES):
        return
    with open(PACKAGES, encoding="ascii") as file:
        ours = sorted(set(file.read().split()))
    plan = subprocess.run(["apt-get", "-s", "remove", *ours], check=False, capture_output=True, text=True).stdout
    going = {line.split()[1] for line in plan.splitlines() if line.startswith("Remv ")}
    if not going:
        os.unlink(PACKAGES)
        return
    if going <= set(ours):
        # This program needs python3 itself, which may be among them: apt takes its place.
        say(f"removing {len(going)} packages that make installed")
        os.unlink(PACKAGES)
        sys.stdout.flush()
        os.execvp("apt-get", ["apt-get", "remove", "-qq", "-y", "--purge", *sorted(going)])
    subprocess.run(["apt-mark", "-qq", "auto", *ours], check=False)
    say("other packages need some of those that make installed: they are marked for `apt-get autoremove`")


if __name__ == "__main__":
    main(purge="--purge" in sys.argv[1:])

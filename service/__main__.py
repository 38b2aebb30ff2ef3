"""The service process: activation, stage 0, and the event loop once something needs it, until idle.

    python -I -S service/__main__.py                   the socket comes from systemd (LISTEN_FDS)
    python -I -S service/__main__.py --socket PATH     own socket, stays until SIGTERM

`-I -S` leaves out `site`, which costs more than the first answer; so the places to import from are found here. This
file is compiled anew at each start (Python keeps no .pyc of a script), so it is short.
"""

import sys

ROOT = __file__.rpartition("/service/")[0]


def find_packages() -> None:
    """Put the project, its virtual environment and Debian's own packages on the path, in this order."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = sys.executable.rpartition("/bin/")[0]
    sys.path[:0] = [ROOT]
    sys.path += [f"{home}/lib/{version}/site-packages", "/usr/lib/python3/dist-packages"]


if __name__ == "__main__":
    import gc

    gc.disable()  # a tenth of the time that imports take
    if not sys.flags.safe_path:
        sys.path.pop(0)  # the script's own folder, whose `process` and `errors` must not be top-level names
    find_packages()
    from compat_api import life

    life.main(sys.argv[1:])

"""Where third parties' modules are imported from by programs that run with `-I -S`.

`-S` leaves out `site`, which costs more than the first answer; so the places are named here.
"""

import sys


def find() -> None:
    """Put the virtual environment that runs us, and Debian's own packages, at the end of the path."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = sys.executable.rpartition("/bin/")[0]
    sys.path += [f"{home}/lib/{version}/site-packages", "/usr/lib/python3/dist-packages"]

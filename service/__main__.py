"""The service process: activation, stage 0, and the event loop once something needs it, until idle.

    python -I -S service/__main__.py                   the socket comes from systemd (LISTEN_FDS)
    python -I -S service/__main__.py --socket PATH     own socket, stays until SIGTERM

This file is compiled anew at each start (Python keeps no .pyc of a script), so it is short.
"""

import sys

if __name__ == "__main__":
    import gc

    gc.disable()  # a tenth of the time that imports take
    if not sys.flags.safe_path:
        sys.path.pop(0)  # the script's own folder, whose `process` and `errors` must not be top-level names
    sys.path[:0] = [__file__.rpartition("/service/")[0]]
    from service import packages

    packages.find()
    from compat_api import life

    life.main(sys.argv[1:])

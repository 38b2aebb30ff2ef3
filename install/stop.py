"""`make stop`: nothing listens any more. Containers go on; `make run` finds them again."""

from install import service
from install.service import say

if __name__ == "__main__":
    say("stopped; containers go on" if service.stop() else "nothing was listening")

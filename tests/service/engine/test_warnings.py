"""What `docker info` warns of, by what the host can do."""

import pytest

from service.daemon_json import DaemonJson
from service.engine import system
from service.kernel.cgroup import Cgroups
from service.runtime.cdi import Registry

V1, V2 = Cgroups(1, frozenset(), {}, ""), Cgroups(2, frozenset(), {}, "/sys/fs/cgroup")
CFS = ["No cpu cfs quota support", "No cpu cfs period support"]
EVERYTHING = frozenset(system._LIMITS)


def warnings(groups: Cgroups, can: frozenset[str], *, forwards: bool = True) -> list[str]:
    said = system._warnings(groups, can, Registry([]), DaemonJson({}), forwards=forwards) or []
    assert all(text.startswith("WARNING: ") for text in said)
    return [text.removeprefix("WARNING: ") for text in said]


def test_a_host_that_can_do_everything_is_not_warned_of() -> None:
    assert warnings(V1, EVERYTHING) == warnings(V2, EVERYTHING) == []
    assert warnings(V2, EVERYTHING, forwards=False) == ["IPv4 forwarding is disabled"]


@pytest.mark.parametrize(
    ("lacking", "on_v1", "on_v2"),
    [
        ("oom", ["No oom kill disable support"], []),
        ("weight", [], ["No io.weight support"]),
        ("weight device", [], ["No io.weight (per device) support"]),
        ("cfs", CFS, CFS),
        ("read bps", ["No blkio throttle.read_bps_device support"], ["No io.max (rbps) support"]),
        ("swap", ["No swap limit support"], ["No swap limit support"]),
    ],
)  # fmt: skip
def test_what_is_lacking_is_named_as_the_kernel_names_it(lacking: str, on_v1: list[str], on_v2: list[str]) -> None:
    assert warnings(V1, EVERYTHING - {lacking}) == on_v1
    assert warnings(V2, EVERYTHING - {lacking}) == on_v2

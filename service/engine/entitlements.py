"""What a build's user may allow its steps: `--allow` of buildx, within what the machine's administrator allows.

Source: dockerd's setting `builder.entitlements`; BuildKit's util/entitlements (names and texts).
"""

from service import daemon_json
from service.engine.solving import NETWORK_HOST, SECURITY_INSECURE, SolveFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.settings import Settings

_DEVICE = "device"  # and device=NAME: there are none, which the step that wants one is told


def check(settings: "Settings", asked: "Iterable[str]") -> None:
    """Raises SolveFailed for a name that nobody knows and for what daemon.json does not let builds have, and
    SystemFailure when that file cannot be understood. Blocking."""
    rules = daemon_json.read(settings.daemon_json)
    granted = {NETWORK_HOST: rules.build_host_network, SECURITY_INSECURE: rules.build_insecure}
    for name in asked:
        if name == _DEVICE or name.startswith(f"{_DEVICE}="):
            continue
        if name not in granted:
            raise SolveFailed(f"invalid entitlement {name}")
        if not granted[name]:
            raise SolveFailed(f"granting entitlement {name} is not allowed by build daemon configuration")

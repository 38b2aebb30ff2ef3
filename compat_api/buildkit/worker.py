"""What builds here, as a client sees it."""

from compat_api import negotiation
from compat_api.buildkit.wire import control_pb2 as control
from service.content import mirror, platforms
from service.kernel import binfmt

_PACKAGE = "github.com/moby/buildkit"
_VERSION = "v0.25.2"  # the release that is built into the engine which `negotiation` names: clients compare it
_LABEL = "org.mobyproject.buildkit.worker."


def record() -> control.WorkerRecord:
    """The one worker. Without the label of a snapshotter clients take us for what we are: an image store of our own."""
    system, architecture, variant = platforms.host()
    found = control.WorkerRecord(
        ID=f"moorage-{system}-{architecture}", Labels={_LABEL + "executor": "moorage"}, version=version()
    )
    found.platforms.add(OS=system, Architecture=architecture, Variant=variant)
    for other, its_variant in binfmt.emulated():
        if other != architecture:
            found.platforms.add(OS=system, Architecture=other, Variant=its_variant)
    found.policies.add(
        filters=["type==source.local"], keepDuration=mirror.KEPT_SECONDS * 10**9, maxUsedSpace=mirror.KEPT_BYTES
    )
    return found


def version() -> control.BuildkitVersion:
    """The version of the protocol's reference that we answer as."""
    return control.BuildkitVersion(package=_PACKAGE, version=_VERSION, revision="moorage-" + negotiation.ENGINE_VERSION)

"""What a node says that is in no swarm: the only state there is here. Texts and meanings are dockerd's."""

from service.errors import InvalidParameter, Unavailable

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    "to connect this node to swarm and try again."
)
NOT_OFFERED = "swarm mode is not offered by this engine"


def no_swarm() -> Unavailable:
    """The error of everything that only a manager can do."""
    return Unavailable(NOT_A_MANAGER)


def not_in_a_swarm() -> Unavailable:
    """The error of leaving where nobody has joined."""
    return Unavailable("This node is not part of a swarm")


def check_version(kind: str, text: str) -> None:
    """The version that an update names must be an unsigned number of 64 bits. Raises InvalidParameter."""
    digits = text.isascii() and text.isdigit()
    if digits and int(text[:21]) < 1 << 64:
        return
    if kind in ("secret", "config"):
        raise InvalidParameter(f"invalid {kind} version")
    reason = "value out of range" if digits else "invalid syntax"
    raise InvalidParameter(f"invalid {kind} version '{text}': strconv.ParseUint: parsing \"{text}\": {reason}")


def check_streams(stdout: bool, stderr: bool) -> None:
    """Logs of services and tasks want at least one stream. Raises InvalidParameter."""
    if not (stdout or stderr):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")


def check_address(address: str) -> None:
    """Where a node of a swarm would listen. Raises InvalidParameter."""
    if not address:
        raise InvalidParameter('invalid ListenAddr "": invalid empty address')

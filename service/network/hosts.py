"""The texts of a container's /etc/hosts and /etc/hostname. Pure."""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LOCAL = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts_text(
    *,
    base: str = _LOCAL,
    extra: "Sequence[str]" = (),
    host_gateway: str = "",
    addresses: "Sequence[str]" = (),
    hostname: str = "",
    domain: str = "",
) -> str:
    """/etc/hosts: `base`, the `extra` entries ("name:address", address possibly `host-gateway`), own addresses.

    Raises InvalidParameter for an extra entry that is none.
    """
    lines = [base if base.endswith("\n") or not base else base + "\n"]
    for entry in extra:
        name, separator, address = entry.partition("=") if "=" in entry else entry.partition(":")
        address = address.removeprefix("[").removesuffix("]")
        if not separator or not name or not address:
            raise InvalidParameter(f'bad format for add-host: "{entry}"')
        if address == "host-gateway":
            if not host_gateway:
                raise InvalidParameter(
                    "unable to derive the IP value for host-gateway: no default bridge network on this host"
                )
            address = host_gateway
        lines.append(f"{address}\t{name}\n")
    names = f"{hostname}.{domain} {hostname}" if domain else hostname
    if names:
        lines.extend(f"{address}\t{names}\n" for address in addresses)
    return "".join(lines)

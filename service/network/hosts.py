"""The texts of a container's /etc/hosts and /etc/hostname. Pure.

An entry is (address, names): one line, the names separated by blanks.
"""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Entry = tuple[str, str]

LOCAL = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def extra_entries(extra: "Sequence[str]", host_gateways: "Sequence[str]") -> "list[Entry]":
    """The entries of ExtraHosts ("name:address"); an address of `host-gateway` stands for each of `host_gateways`.

    Raises InvalidParameter for one that is none.
    """
    entries = []
    for text in extra:
        name, separator, address = text.partition(":")
        if not separator or not name or not address:
            raise InvalidParameter(f'bad format for add-host: "{text}"')
        if address != "host-gateway":
            entries.append((address, name))
            continue
        if not host_gateways:
            raise InvalidParameter("unable to derive the IP value for host-gateway")
        entries += [(gateway, name) for gateway in host_gateways]
    return entries


def own_names(hostname: str, domain: str = "") -> str:
    """What a container calls itself: its full name and, where that has several parts, the first of them."""
    full = f"{hostname}.{domain}" if domain else hostname
    first, dot, _ = full.partition(".")
    return f"{full} {first}" if dot else full


def hosts_text(entries: "Sequence[Entry]", base: str = LOCAL) -> str:
    """/etc/hosts: `base`, then the entries."""
    return (base if base.endswith("\n") or not base else base + "\n") + _lines(entries)


def with_entries(text: str, entries: "Sequence[Entry]") -> str:
    """`text` with entries at its end."""
    return hosts_text(entries, text)


def without_entries(text: str, entries: "Sequence[Entry]") -> str:
    """`text` without the lines that are just these entries; a line that somebody has changed stays."""
    gone = set(_lines(entries).splitlines(keepends=True))
    return "".join(line for line in text.splitlines(keepends=True) if line not in gone)


def without_alias(text: str, alias: str) -> str:
    """`text` without the lines whose first name is `alias`."""
    return "".join(line for line in text.splitlines(keepends=True) if _first_name(line) != alias)


def with_alias(text: str, alias: str, entries: "Sequence[Entry]") -> str:
    """`text` with the addresses of `entries` where `alias` is the first name, each in its family, or at the end."""
    for address, names in entries:
        lines = text.splitlines(keepends=True)
        places = [
            place
            for place, line in enumerate(lines)
            if _first_name(line) == alias and (":" in line.partition("\t")[0]) == (":" in address)
        ]
        for place in places:
            lines[place] = f"{address}\t{lines[place].partition(chr(9))[2]}"
        text = "".join(lines) if places else with_entries(text, [(address, names)])
    return text


def _first_name(line: str) -> str:
    """The first name of a line in the form that entries have: address, tab, names."""
    names = line.partition("\t")[2].split()
    return names[0] if names else ""


def _lines(entries: "Sequence[Entry]") -> str:
    return "".join(f"{address}\t{names}\n" for address, names in entries)

"""What is pure: addresses, /etc/hosts, /etc/resolv.conf, the table of the packet filter."""

import re

import pytest

from service.errors import Forbidden, InvalidParameter
from service.network import dns, hosts, ipam, rules


def test_the_default_pools() -> None:
    subnets = [str(subnet) for subnet in ipam.pools(ipam.DEFAULT_POOLS)]
    assert subnets[:2] == ["172.17.0.0/16", "172.18.0.0/16"]
    assert subnets[14:17] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    assert len(subnets) == 31


def test_pools_of_both_families() -> None:
    mixed = "fd00:1::/62/64,10.0.0.0/23/24"
    assert [str(subnet) for subnet in ipam.pools(mixed)] == ["10.0.0.0/24", "10.0.1.0/24"]
    assert [str(subnet) for subnet in ipam.pools(mixed, 128)][-1] == "fd00:1:0:3::/64"


def test_a_subnet_in_use_is_passed_over() -> None:
    used = {ipam.parse_subnet("172.16.0.0/12")}
    assert str(ipam.choose_subnet(ipam.pools(ipam.DEFAULT_POOLS), used)) == "192.168.0.0/20"
    with pytest.raises(InvalidParameter, match="all predefined address pools have been fully subnetted"):
        ipam.choose_subnet(ipam.pools("10.0.0.0/24/24"), {ipam.parse_subnet("10.0.0.128/25")})


def test_lowest_free() -> None:
    subnet = ipam.parse_subnet("10.0.0.0/29")
    base = subnet.base
    assert ipam.lowest_free(subnet, {base + 1, base + 2, base + 4}) == base + 3
    with pytest.raises(Forbidden):
        ipam.lowest_free(subnet, set(range(base + 1, base + 7)))  # .7 is the broadcast address


@pytest.mark.parametrize("text", ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8"])
def test_what_is_no_subnet(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an IP address|invalid CIDR"):
        ipam.parse_subnet(text)


def test_hosts() -> None:
    extra = hosts.extra_entries(["db:10.0.0.9", "gw:host-gateway", "six:::7"], ["172.17.0.1", "fd00::1"])
    text = hosts.hosts_text([*extra, ("172.17.0.2", hosts.own_names("web", "example.org"))])
    assert text.startswith("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
    assert text.endswith("10.0.0.9\tdb\n172.17.0.1\tgw\nfd00::1\tgw\n::7\tsix\n172.17.0.2\tweb.example.org web\n")
    with pytest.raises(InvalidParameter, match='bad format for add-host: "nonsense"'):
        hosts.extra_entries(["nonsense"], [])
    with pytest.raises(InvalidParameter, match="unable to derive the IP value for host-gateway"):
        hosts.extra_entries(["gw:host-gateway"], [])
    assert [hosts.own_names(*names) for names in (("a",), ("a.b.c",), ("a.b", "c.d"))] == [
        "a", "a.b.c a", "a.b.c.d a",
    ]  # fmt: skip


def test_hosts_of_a_container_that_runs() -> None:
    text = "127.0.0.1\tlocalhost\n10.0.0.2\tdb dbhost\n10.0.0.9\tmine.by.hand\nfd00::2\tdb dbhost\n"
    moved = hosts.with_alias(text, "db", [("10.0.0.3", "db x"), ("fd00::3", "db x")])
    assert moved == text.replace("10.0.0.2", "10.0.0.3").replace("fd00::2", "fd00::3")
    assert hosts.with_alias(text, "new", [("10.0.0.4", "new")]) == text + "10.0.0.4\tnew\n"
    assert hosts.without_alias(text, "db") == "127.0.0.1\tlocalhost\n10.0.0.9\tmine.by.hand\n"
    joined = hosts.with_entries(text, [("10.1.0.2", "me")])
    assert hosts.without_entries(joined, [("10.1.0.2", "me")]) == text
    assert hosts.without_entries(text, [("10.0.0.2", "db")]) == text, "changed by hand: it stays"


def test_resolv_conf_in_a_namespace_of_its_own() -> None:
    host = "# c\nnameserver 127.0.0.1\nnameserver 192.0.2.53 # x\nnameserver 2001:db8::1\nsearch a b\noptions ndots:2\n"
    assert dns.resolv_text(host) == "nameserver 192.0.2.53\nsearch a b\noptions ndots:2\n"
    assert dns.resolv_text("nameserver ::1\n") == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert dns.resolv_text(host, own_namespace=False).startswith("nameserver 127.0.0.1\n")
    assert dns.resolv_text(host, servers=["127.0.0.1"], search=["."]) == "nameserver 127.0.0.1\noptions ndots:2\n"


def test_an_older_nft_survives_our_table() -> None:
    """nft 1.0 crashes on what nft 1.1 makes of a set or map of one field with a plain `type`."""
    written = re.findall(r"(?:set|map) (\w+) \{ (type[^;]*);", rules.render("t", [], [], closed=False))
    assert len(written) == len(re.findall(r"^  (?:set|map) ", rules.render("t", [], [], closed=False), re.MULTILINE))
    assert [name for name, said in written if said.startswith("type ") and " . " not in said.partition(" : ")[0]] == []

"""ctnetlink: the flows that connection tracking remembers. Formats: linux/netfilter/nfnetlink_conntrack.h.

Redirection is decided once per flow. A UDP sender that never pauses keeps its flow alive, and with it a decision from
before a port was published, or from before its container got another address; so such flows are made to be forgotten.
"""

import struct

from service.kernel.netlink import (
    AF_INET,
    AF_INET6,
    ENOENT,
    NETLINK_NETFILTER,
    Channel,
    Message,
    attribute,
    attributes,
    nested,
    u32,
)

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK | IPCTNL_MSG_CT_…
_ORIGINAL, _REPLY, _FILTER = 1, 2, 25  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_FILTER
_BY_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5  # CTA_FILTER_F_CTA_PROTO_NUM, …_DST_PORT
UDP = 17


def forget_udp(address: str, port: int) -> None:
    """Forget UDP flows to host port `port` that are not redirected, or are redirected to `address` (a container's).

    Nothing where the kernel has no connection tracking yet. Raises OSError.
    """
    from _socket import AF_INET as FAMILY
    from _socket import AF_INET6 as FAMILY6
    from _socket import inet_pton

    ipv6 = ":" in address
    packed = inet_pton(FAMILY6 if ipv6 else FAMILY, address)
    family, source, destination = (AF_INET6, 3, 4) if ipv6 else (AF_INET, 1, 2)
    header = struct.pack(">BBH", family, 0, 0)
    wanted = nested(_ORIGINAL, nested(2, attribute(1, bytes([UDP])), attribute(3, struct.pack(">H", port))))
    with Channel(NETLINK_NETFILTER) as channel:
        try:
            flows = channel.dump(_GET, header + wanted + nested(_FILTER, u32(1, _BY_PROTOCOL_AND_PORT)))
        except OSError as error:
            if error.errno in (22, 95):  # EINVAL, EOPNOTSUPP: the module is not loaded: there are no flows
                return
            raise
        stale = []
        for flow in flows:
            known = attributes(flow, 4)
            original = attributes(attributes(known[_ORIGINAL])[1])
            answered_by = attributes(attributes(known[_REPLY])[1])[source]
            if answered_by in (packed, original[destination]):
                stale.append(Message(_DELETE, 0, header + nested(_ORIGINAL, known[_ORIGINAL]), (ENOENT,)))
        channel.request(*stale)

"""Networks and volumes from every side: documents of all shapes, lists by every filter, joining, leaving, pruning."""

from typing import Any

from tests.differential.steps import Step, delete, get, make, post


def network(name: str, *configs: dict[str, Any], **more: Any) -> Step:
    """A network to be."""
    return post("/networks/create", {"Name": name, **({"IPAM": {"Config": [*configs]}} if configs else {}), **more})


def shown(*configs: dict[str, Any], **more: Any) -> list[Step]:
    """A network made, looked at and removed."""
    return [network("d-shown", *configs, **more), get("/networks/d-shown"), delete("/networks/d-shown")]


def filtered(path: str, **filters: str) -> Step:
    """A list by one filter."""
    ((key, value),) = filters.items()
    return get(f'{path}?filters={{"{key}":["{value}"]}}')


def connect(name: str, container: str, **endpoint: Any) -> Step:
    return post(f"/networks/{name}/connect", {"Container": container, "EndpointConfig": endpoint})


def disconnect(name: str, container: str, **more: Any) -> Step:
    return post(f"/networks/{name}/disconnect", {"Container": container, **more})


FOUR, FIVE = {"Subnet": "10.99.4.0/24"}, {"Subnet": "10.99.5.0/24"}
SIX = {"Subnet": "fd00:99:6::/64"}
BRIDGE = "com.docker.network.bridge."

DOCUMENTS: dict[str, list[Step]] = {
    "networks of every shape": [
        *shown(FOUR),
        *shown(
            {**FOUR, "Gateway": "10.99.4.254", "IPRange": "10.99.4.128/25", "AuxiliaryAddresses": {"a": "10.99.4.5"}}
        ),
        *shown(FOUR, Internal=True),
        *shown(FOUR, Attachable=True, CheckDuplicate=True),
        *shown(FOUR, SIX, EnableIPv6=True),
        *shown({"Subnet": "fd00:99:6::/64", "Gateway": "fd00:99:6::77"}, FOUR, EnableIPv6=True),
        *shown(FOUR, Labels={"a": "b", "c": ""}, Options={"com.docker.network.driver.mtu": "1400"}),
        *shown(FOUR, Options={BRIDGE + "enable_icc": "false", BRIDGE + "host_binding_ipv4": "127.0.0.1", "x": "y"}),
        *shown(FOUR, Driver="bridge", Scope="local"),
        *shown(FOUR, Driver="", Options={}),
        network("d-shown", IPAM={"Driver": "default", "Config": [FOUR], "Options": {"a": "b"}}),
        get("/networks/d-shown"),
        delete("/networks/d-shown"),
    ],
    "networks in lists": [
        network("d-list-one", FOUR, Labels={"a": "b"}),
        network("d-list-two", FIVE, Labels={"a": "c", "d": ""}, Internal=True),
        make("d-listed", HostConfig={"NetworkMode": "d-list-one"}),
        post("/containers/d-listed/start"),
        *(filtered("/networks", name=name) for name in ("d-list", "d-list-one", "list-two", "LIST", "nosuch")),
        *(filtered("/networks", driver=name) for name in ("host", "null", "macvlan")),
        *(filtered("/networks", label=text) for text in ("a", "a=b", "d=", "z", "a=")),
        *(filtered("/networks", type=kind) for kind in ("builtin", "custom")),
        *(filtered("/networks", scope=kind) for kind in ("swarm", "global")),
        filtered("/networks", id="nosuch"),
        get('/networks?filters={"name":["d-list-one","d-list-two"],"label":["a"]}'),
        get('/networks?filters={"label":["a=b","d"]}'),
        get('/networks?filters={"driver":{"host":true,"null":true}}'),
        get("/networks/d-list-one?verbose=1"),
        get("/networks/d-list-one?scope=local"),
        delete("/containers/d-listed?force=1"),
        delete("/networks/d-list-one"),
        delete("/networks/d-list-two"),
    ],
    "networks pruned": [
        network("d-prune-one", FOUR, Labels={"a": "b"}),
        network("d-prune-two", FIVE, Labels={"keep": ""}),
        network("d-prune-used"),
        make("d-pruned", HostConfig={"NetworkMode": "d-prune-used"}),
        post('/networks/prune?filters={"label":["a=c"]}'),
        post('/networks/prune?filters={"until":["1h"]}'),
        post('/networks/prune?filters={"label!":["keep"],"label":["a"]}'),
        post("/networks/create", {"Name": "d-prune-one"}),
        post('/networks/prune?filters={"label":["keep"]}'),
        post('/networks/prune?filters={"until":["2001-01-01T00:00:00Z"]}'),
        delete("/containers/d-pruned"),
        post("/networks/prune"),
        post("/networks/prune"),
    ],
    "joining and leaving": [
        network("d-first", FOUR, SIX, EnableIPv6=True),
        network("d-second", FIVE),
        make("d-db"),
        post("/containers/d-db/start"),
        connect("d-first", "d-db", Aliases=["data"]),
        make("d-member"),
        connect("d-first", "d-member", Aliases=["one", "two"], IPAMConfig={"IPv4Address": "10.99.4.77"}),
        get("/containers/d-member/json"),
        post("/containers/d-member/start"),
        get("/containers/d-member/json"),
        connect("d-second", "d-member", MacAddress="02:42:0a:63:05:63", DriverOpts={"a": "b"}),
        get("/containers/d-member/json"),
        get("/networks/d-first"),
        get("/networks/d-second"),
        disconnect("d-first", "d-member"),
        get("/containers/d-member/json"),
        connect(
            "d-first",
            "d-member",
            Links=["d-db:database"],
            IPAMConfig={"IPv4Address": "10.99.4.78", "IPv6Address": "fd00:99:6::78"},
        ),
        get("/containers/d-member/json"),
        post("/containers/d-member/rename?name=d-renamed"),
        get("/containers/d-renamed/json"),
        get("/networks/d-first"),
        post("/containers/d-renamed/kill"),
        post("/containers/d-renamed/wait"),
        get("/networks/d-first"),
        disconnect("d-second", "d-renamed"),
        get("/containers/d-renamed/json"),
        disconnect("bridge", "d-renamed"),
        disconnect("d-first", "d-renamed", Force=True),
        get("/containers/d-renamed/json"),
        post("/containers/d-renamed/start"),
        get("/containers/d-renamed/json"),
        delete("/containers/d-renamed?force=1"),
        delete("/containers/d-db?force=1"),
        delete("/networks/d-first"),
        delete("/networks/d-second"),
    ],
    "volumes in lists": [
        post("/volumes/create", {"Name": "d-list-one", "Labels": {"a": "b"}}),
        post("/volumes/create", {"Name": "d-list-two", "Labels": {"a": "c", "d": ""}, "Driver": "local"}),
        post("/volumes/create", {"Name": "d-list-one", "Labels": {"other": "1"}}),
        make("d-user", HostConfig={"Binds": ["d-list-one:/v"]}),
        *(filtered("/volumes", name=name) for name in ("d-list", "d-list-one", "list-two", "nosuch")),
        *(filtered("/volumes", label=text) for text in ("a", "a=b", "d=", "z")),
        *(filtered("/volumes", driver=name) for name in ("local", "nosuch")),
        *(filtered("/volumes", dangling=flag) for flag in ("true", "false", "1", "0")),
        get('/volumes?filters={"name":["d-list-one","d-list-two"],"dangling":["true"]}'),
        get('/volumes?filters={"label":["a=b","d"]}'),
        get('/volumes?filters={"label!":["d"]}'),
        get("/volumes/d-list-one"),
        delete("/containers/d-user"),
        delete("/volumes/d-list-one"),
        delete("/volumes/d-list-two?force=1"),
    ],
    "volumes pruned": [
        post("/volumes/create", {"Name": "d-prune-one", "Labels": {"a": "b"}}),
        post("/volumes/create", {"Name": "d-prune-two", "Labels": {"keep": ""}}),
        post("/volumes/create", {}),
        make("d-pruned", Volumes={"/anonymous": {}}, HostConfig={"Binds": ["d-prune-used:/v"]}),
        post('/volumes/prune?filters={"label":["a=c"]}'),
        post("/volumes/prune"),
        filtered("/volumes", dangling="true"),
        post('/volumes/prune?filters={"all":["true"],"label!":["keep"]}'),
        delete("/containers/d-pruned"),
        post('/volumes/prune?filters={"all":["true"]}'),
        filtered("/volumes", name="d-prune"),
    ],
}

MISTAKES: dict[str, list[Step]] = {
    "members and strangers": [
        network("d-first", {**FOUR, "AuxiliaryAddresses": {"a": "10.99.4.5"}}),
        network("d-second"),
        make("d-one", HostConfig={"NetworkMode": "d-first"}),
        make("d-two"),
        make("d-hosted", HostConfig={"NetworkMode": "host"}),
        make("d-alone", HostConfig={"NetworkMode": "none"}),
        make("d-shares", HostConfig={"NetworkMode": "container:d-one"}),
        post("/containers/d-one/start"),
        post("/containers/d-two/start"),
        *(
            connect("d-first", "d-two", IPAMConfig={"IPv4Address": address})
            for address in (
                "10.99.4.1",
                "10.99.4.2",
                "10.99.4.5",
                "10.99.4.0",
                "10.99.4.255",
                "10.99.9.9",
                "zz",
                "fd00::1",
            )
        ),
        connect("d-first", "d-two", IPAMConfig={"IPv6Address": "fd00:99:6::9"}),
        connect("d-first", "d-two", IPAMConfig={"IPv6Address": "zz"}),
        connect("d-first", "d-two", IPAMConfig={"LinkLocalIPs": ["zz"]}),
        connect("d-second", "d-two", IPAMConfig={"IPv4Address": "10.99.4.9"}),
        connect("d-first", "d-two", MacAddress="zz"),
        connect("d-first", "d-two", Links=["nosuch:alias"]),
        connect("d-first", "d-two", Links=["a:b:c"]),
        connect("d-first", "nosuch"),
        connect("nosuch", "d-two"),
        *(connect(name, "d-two") for name in ("host", "none", "bridge")),
        *(connect("d-first", name) for name in ("d-hosted", "d-alone", "d-shares", "d-one", "")),
        *(disconnect(name, "d-two") for name in ("d-second", "host", "none", "nosuch", "bridge")),
        *(disconnect("host", name) for name in ("d-hosted", "d-two")),
        disconnect("d-first", "d-shares"),
        disconnect("d-first", "nosuch", Force=True),
        disconnect("d-first", ""),
        disconnect("none", "d-alone"),
        delete("/networks/d-first"),
        *(delete(f"/containers/{name}?force=1") for name in ("d-shares", "d-one", "d-two", "d-hosted", "d-alone")),
        delete("/networks/d-first"),
        delete("/networks/d-second"),
    ],
    "networks that are gone": [
        network("d-first", FOUR),
        make("d-one", HostConfig={"NetworkMode": "d-first"}),
        delete("/networks/d-first"),
        post("/containers/d-one/start"),
        disconnect("d-first", "d-one"),
        delete("/containers/d-one?force=1"),
        make("d-one", HostConfig={"NetworkMode": "nosuch"}),
        post("/containers/d-one/start"),
        delete("/containers/d-one?force=1"),
    ],
    "volumes that are used": [
        post("/volumes/create", {"Name": "d-used"}),
        make("d-one", HostConfig={"Binds": ["d-used:/v"]}),
        post("/containers/d-one/start"),
        delete("/volumes/d-used"),
        delete("/volumes/d-used?force=1"),
        post("/containers/d-one/kill"),
        delete("/volumes/d-used"),
        delete("/containers/d-one"),
        post(
            "/volumes/create", {"Name": "d-used", "Driver": "local", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}
        ),
        post("/volumes/create", {"Name": "d-used", "Driver": "local", "DriverOpts": {"type": "nfs", "o": "addr=zz"}}),
        post("/volumes/create", {"Name": "d-no", "DriverOpts": {"type": "none", "o": "bind", "device": "/nosuch_zz"}}),
        post("/volumes/create", {"Name": "d-no", "DriverOpts": {"o": "bind"}}),
        post("/volumes/create", {"Name": "d-no", "DriverOpts": {"type": "none", "device": "/tmp", "size": "zz"}}),
        post("/volumes/create", {"Name": "", "Labels": ["a"]}),
        post("/volumes/create", {"Name": "a/b"}),
        post("/volumes/create", {"Name": ".hidden"}),
        delete("/volumes/d-used"),
        delete("/volumes/d-no?force=1"),
    ],
}

"""Requests whose answers are documents: what is compared is every key and value of them."""

from typing import Any

from tests.differential import objects
from tests.differential.steps import Step, delete, get, make, post, publishing
from tests.support.ports import free_ports

MIB = 1 << 20
_FIRST_PORT = free_ports(20)


def port(number: int) -> str:
    """One of the machine's ports; both engines are asked for the same."""
    return str(_FIRST_PORT + number)


def whole_life(name: str, **config: Any) -> list[Step]:
    """A container, looked at as created, running and stopped."""
    listed = f'/containers/json?all=1&filters={{"name":["{name}"]}}'
    look = [get(f"/containers/{name}/json"), get(listed)]
    return [
        *(make(name, **config), *look),
        *(post(f"/containers/{name}/start"), *look),
        *(post(f"/containers/{name}/kill"), post(f"/containers/{name}/wait"), *look),
        delete(f"/containers/{name}?v=1"),
    ]


def created(**config: Any) -> list[Step]:
    """A container, looked at as created."""
    return [make("d-made", **config), get("/containers/d-made/json"), delete("/containers/d-made?v=1")]


CASES: dict[str, list[Step]] = {
    **objects.DOCUMENTS,
    "a plain container": whole_life("d-plain"),
    "a terminal": whole_life("d-tty", Tty=True, OpenStdin=True, StdinOnce=True, AttachStdin=True, AttachStdout=True),
    "a process": created(
        Env=["A=b", "C"],
        WorkingDir="/tmp/x/",
        User="1000",
        Hostname="there",
        Domainname="example",
        Entrypoint=["sh", "-c"],
        Cmd=["true"],
        Labels={"a": "b"},
        StopSignal="SIGUSR1",
        StopTimeout=3,
    ),
    "a command as text": created(Cmd="true", Entrypoint="echo"),
    "nothing but an image": [
        post("/containers/create", {"Image": "busybox"}),
        get("/containers/{last}/json"),
        delete("/containers/{last}"),
    ],
    "limits": created(
        HostConfig={
            "Memory": 64 * MIB,
            "MemoryReservation": 32 * MIB,
            "MemorySwappiness": 10,
            "NanoCpus": 500_000_000,
            "CpuShares": 100,
            "CpusetCpus": "0",
            "PidsLimit": 20,
            "OomKillDisable": False,
            "OomScoreAdj": 10,
            "ShmSize": MIB,
            "BlkioWeight": 300,
            "Ulimits": [{"Name": "nofile", "Soft": 1000, "Hard": 2000}],
        }
    ),
    "capabilities and options": created(
        HostConfig={
            "CapAdd": ["sys_ptrace", "CAP_NET_ADMIN"],
            "CapDrop": ["all"],
            "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
            "GroupAdd": ["1", "games"],
            "ReadonlyRootfs": True,
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}],
            "DeviceCgroupRules": ["c 1:3 rwm"],
            "Sysctls": {"net.ipv4.ip_forward": "1"},
            "Annotations": {"a": "b"},
            "MaskedPaths": [],
            "ReadonlyPaths": ["/proc/sys"],
            "Init": True,
        }
    ),
    "privileged": created(HostConfig={"Privileged": True}),
    "namespaces of the host": created(
        HostConfig={"NetworkMode": "host", "PidMode": "host", "IpcMode": "host", "UTSMode": "host"}
    ),
    "no network": whole_life("d-alone", HostConfig={"NetworkMode": "none"}),
    "names": created(
        HostConfig={
            "Dns": ["1.1.1.1"],
            "DnsOptions": ["ndots:1"],
            "DnsSearch": ["example.org"],
            "ExtraHosts": ["a:1.2.3.4", "b=1.2.3.5"],
        }
    ),
    "policies": created(
        HostConfig={
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
            "ConsoleSize": [10, 20],
        }
    ),
    "an empty restart policy": created(HostConfig={"RestartPolicy": {}, "LogConfig": {}}),
    "a health check": created(Healthcheck={"Test": ["CMD-SHELL", "true"], "Interval": 10**9, "Retries": 2}),
    "no health check": created(Healthcheck={"Test": ["NONE"]}),
    "mounts": whole_life(
        "d-mounts",
        Volumes={"/anonymous": {}},
        HostConfig={
            "Binds": ["/tmp:/a:ro", "d-named:/b"],
            "Mounts": [
                {"Type": "bind", "Source": "/usr", "Target": "/c", "ReadOnly": True},
                {"Type": "volume", "Source": "d-other", "Target": "/d", "VolumeOptions": {"NoCopy": True}},
                {"Type": "tmpfs", "Target": "/e", "TmpfsOptions": {"SizeBytes": MIB, "Mode": 0o700}},
            ],
            "Tmpfs": {"/f": "size=1m"},
        },
    ),
    "binds": [
        step
        for bind in (
            *("/tmp:/a", "/tmp/:/a/", "/tmp/../usr/lib:/a/../b:z,ro", "/tmp:/a:rslave", "/tmp:/a:Z,cached", "/:/host"),
            *(
                "d-named:/a",
                "d-named:/a:ro",
                "d-named:/a:nocopy",
                "/anonymous",
                "/nosuch_zz:/a",
                "/etc/hosts:/etc/hosts",
            ),
        )
        for step in created(HostConfig={"Binds": [bind]})
    ],
    "mounts of each kind": [
        *(
            step
            for mount in (
                {"Type": "bind", "Source": "/tmp", "Target": "/a/"},
                {"Type": "bind", "Source": "/tmp", "Target": "/a", "ReadOnly": True, "Consistency": "cached"},
                {"Type": "bind", "Source": "/nosuch_zz", "Target": "/a", "BindOptions": {"CreateMountpoint": True}},
                {
                    "Type": "bind",
                    "Source": "/tmp",
                    "Target": "/a",
                    "BindOptions": {"Propagation": "slave", "NonRecursive": True},
                },
                {
                    "Type": "bind",
                    "Source": "/",
                    "Target": "/a",
                    "ReadOnly": True,
                    "BindOptions": {"ReadOnlyNonRecursive": True},
                },
                {"Type": "volume", "Target": "/a/"},
                {"Type": "volume", "Source": "d-other", "Target": "/a", "ReadOnly": True},
                {
                    "Type": "volume",
                    "Source": "d-other",
                    "Target": "/a",
                    "VolumeOptions": {"Subpath": "b", "Labels": {"c": "d"}},
                },
                {
                    "Type": "volume",
                    "Source": "d-driven",
                    "Target": "/a",
                    "VolumeOptions": {
                        "DriverConfig": {
                            "Name": "local",
                            "Options": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"},
                        }
                    },
                },
                {"Type": "tmpfs", "Target": "/a"},
                {"Type": "tmpfs", "Target": "/a", "ReadOnly": True, "TmpfsOptions": {"SizeBytes": MIB, "Mode": 0o1777}},
            )
            for step in created(HostConfig={"Mounts": [mount]})
        ),
        get("/system/df?type=volume"),
        post('/volumes/prune?filters={"all":["true"]}'),
        delete("/volumes/d-driven"),
    ],
    "volumes of another container": [
        make(
            "d-donor",
            Volumes={"/anonymous": {}},
            HostConfig={
                "Binds": ["/tmp:/a:ro", "/usr:/b:z", "d-named:/c"],
                "Mounts": [{"Type": "volume", "Target": "/d"}],
            },
        ),
        *(
            step
            for words in ("d-donor", "d-donor:ro", "d-donor:rw,z")
            for step in created(HostConfig={"VolumesFrom": [words]})
        ),
        *created(Volumes={"/c": {}, "/new": {}}, HostConfig={"VolumesFrom": ["d-donor"], "Binds": ["d-other:/b"]}),
        delete("/containers/d-donor?v=1"),
    ],
    "links": [
        make("d-db", Hostname="there", ExposedPorts={"5432/tcp": {}}),
        post("/containers/d-db/start"),
        *whole_life("d-web", HostConfig={"Links": ["d-db:database", "/d-db:/x/other", "d-db"]}),
        make("d-web", HostConfig={"Links": ["d-db:database"]}),
        get('/containers/json?filters={"name":["d-db"]}'),
        get("/containers/d-web/database/json"),
        post("/containers/d-web/rename?name=d-www"),
        post("/containers/d-db/rename?name=d-data"),
        get("/containers/d-www/json"),
        get('/containers/json?filters={"name":["d-data"]}'),
        delete("/containers/d-www/database?link=1"),
        get("/containers/d-www/json"),
        get('/containers/json?filters={"name":["d-data"]}'),
        delete("/containers/d-www"),
        delete("/containers/d-data?force=1"),
    ],
    "MAC addresses": [
        *created(MacAddress="02:00:00:00:00:01"),
        *created(MacAddress="02:00:00:00:00:01", HostConfig={"NetworkMode": "none"}),
        *created(NetworkingConfig={"EndpointsConfig": {"bridge": {"MacAddress": "02-00-00-00-00-0A"}}}),
    ],
    "ports": whole_life(
        "d-ports",
        ExposedPorts={"81/udp": {}, "82": {}},
        HostConfig={
            "PortBindings": {"80/tcp": [{"HostPort": port(0)}], "83": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
        },
    ),
    "ports on all addresses": [
        make(
            "d-ports",
            **publishing(
                {
                    "80/tcp": [{"HostPort": port(0)}],
                    "81/udp": [{"HostIp": "", "HostPort": port(1)}],
                    "82/tcp": [{"HostIp": "::1", "HostPort": port(2)}, {"HostIp": "127.0.0.1", "HostPort": port(3)}],
                    "83/tcp": [{"HostIp": "0.0.0.0", "HostPort": port(4)}, {"HostIp": "0::0", "HostPort": port(5)}],
                }
            ),
        ),
        post("/containers/d-ports/start"),
        get("/containers/d-ports/json"),
        delete("/containers/d-ports?force=1"),
    ],
    "a port published several times": whole_life(
        "d-several",
        ExposedPorts={"80/tcp": {}},
        HostConfig={
            "PortBindings": {
                "80/tcp": [
                    {"HostPort": port(17)},
                    {"HostIp": "127.0.0.1", "HostPort": port(18)},
                    {"HostIp": "127.0.0.1", "HostPort": port(16)},
                    {"HostPort": port(19)},
                ]
            }
        },
    ),
    "an endpoint": [
        post(
            "/networks/create",
            {
                "Name": "d-net",
                "IPAM": {"Config": [{"Subnet": "10.99.7.0/24", "Gateway": "10.99.7.1"}]},
                "Labels": {"a": "b"},
                "Options": {"x.y": "z"},
            },
        ),
        get("/networks/d-net"),
        get('/networks?filters={"name":["d-net"]}'),
        *whole_life(
            "d-end",
            HostConfig={"NetworkMode": "d-net"},
            NetworkingConfig={
                "EndpointsConfig": {
                    "d-net": {"Aliases": ["one"], "IPAMConfig": {"IPv4Address": "10.99.7.9"}, "DriverOpts": {"a": "b"}}
                }
            },
        ),
        make("d-joins"),
        post("/networks/d-net/connect", {"Container": "d-joins", "EndpointConfig": {"Aliases": ["two"]}}),
        get("/containers/d-joins/json"),
        post("/containers/d-joins/start"),
        get("/containers/d-joins/json"),
        get("/networks/d-net"),
        post("/networks/d-net/disconnect", {"Container": "d-joins"}),
        get("/containers/d-joins/json"),
        delete("/containers/d-joins?force=1"),
        delete("/networks/d-net"),
    ],
    "a network of a configuration": [
        post(
            "/networks/create",
            {
                "Name": "d-conf",
                "ConfigOnly": True,
                "IPAM": {"Config": [{"Subnet": "10.99.6.0/24", "AuxiliaryAddresses": {"a": "10.99.6.7"}}]},
                "Labels": {"a": "b"},
                "Options": {"x.y": "z"},
            },
        ),
        get("/networks/d-conf"),
        post("/networks/create", {"Name": "d-of", "ConfigFrom": {"Network": "d-conf"}, "Attachable": True}),
        get("/networks/d-of"),
        *(
            get(f'/networks?filters={{"name":["d-"],{filter}}}')
            for filter in ('"dangling":["1"]', '"driver":["null"]', '"type":["custom"]', '"label":["a=b"]')
        ),
        post('/networks/prune?filters={"label":["zz"]}'),
        delete("/networks/d-of"),
        delete("/networks/d-conf"),
    ],
    "exec sessions": [
        make("d-exec"),
        post("/containers/d-exec/start"),
        post(
            "/containers/d-exec/exec",
            {"Cmd": ["sh", "-c", "exit 3"], "AttachStdout": True, "User": "1", "DetachKeys": "ctrl-a,b"},
        ),
        get("/exec/{last}/json"),
        post("/exec/{last}/start", {"Detach": False}),
        get("/exec/{last}/json"),
        post(
            "/containers/d-exec/exec", {"Cmd": ["sleep", "100"], "Tty": True, "Privileged": True, "AttachStdin": True}
        ),
        post("/exec/{last}/start", {"Detach": True, "Tty": True}),
        get("/exec/{last}/json"),
        get("/containers/d-exec/json"),
        get("/containers/d-exec/top?ps_args=-o%20args"),
        delete("/containers/d-exec?force=1"),
    ],
    "exits": [
        make("d-exits", Cmd=["sh", "-c", "exit 7"]),
        post("/containers/d-exits/start"),
        post("/containers/d-exits/wait"),
        get("/containers/d-exits/json"),
        get('/containers/json?all=1&filters={"name":["d-exits"]}'),
        delete("/containers/d-exits"),
        make("d-exits", Cmd=["nosuchcmd"]),
        post("/containers/d-exits/start"),
        get("/containers/d-exits/json"),
        get('/containers/json?all=1&filters={"name":["d-exits"]}'),
        delete("/containers/d-exits"),
    ],
    "what volumes are": [
        post("/volumes/create", {"Name": "d-vol", "Labels": {"a": "b"}}),
        post("/volumes/create", {"Name": "d-opt", "DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}}),
        get("/volumes/d-vol"),
        get("/volumes/d-opt"),
        get('/volumes?filters={"name":["d-"]}'),
        post("/volumes/create", {}),
        get("/volumes/{last}"),
        delete("/volumes/{last}"),
        delete("/volumes/d-vol"),
        delete("/volumes/d-opt"),
    ],
    "what images are": [
        get("/images/json"),
        get("/images/busybox/json"),
        get("/images/busybox/history"),
        post("/images/busybox/tag?repo=d-tag&tag=1"),
        get('/images/json?filters={"reference":["d-tag"]}'),
        delete("/images/d-tag:1"),
    ],
    "what networks are": [get("/networks/bridge"), get("/networks/host"), get("/networks/none"), get("/networks")],
    "prune": [
        post("/containers/prune"),
        post("/volumes/prune"),
        post("/networks/prune"),
        post("/images/prune"),
        post("/build/prune?all=1"),
        make("d-gone"),
        post("/volumes/create", {"Name": "d-gone"}),
        post("/networks/create", {"Name": "d-gone"}),
        post("/containers/prune"),
        post('/volumes/prune?filters={"all":["true"]}'),
        post("/networks/prune"),
    ],
    "the engine": [get("/version"), get("/info"), get("/system/df"), get("/_ping"), ("HEAD", "/_ping", None)],
    "the engine at work": [
        *(make(f"d-{state}") for state in ("created", "running", "paused", "ended")),
        *(post(f"/containers/d-{state}/start") for state in ("running", "paused", "ended")),
        post("/containers/d-paused/pause"),
        post("/containers/d-ended/kill"),
        post("/containers/d-ended/wait"),
        post("/images/busybox/tag?repo=d-tag&tag=1"),
        get("/info"),
        *(delete(f"/containers/d-{state}?force=1") for state in ("created", "running", "paused", "ended")),
        delete("/images/d-tag:1"),
        get("/info"),
    ],
    "statistics": [
        make("d-use"),
        get("/containers/d-use/stats?stream=0"),
        get("/containers/d-use/stats?stream=0&one-shot=1"),
        post("/containers/d-use/start"),
        get("/containers/d-use/top?ps_args=-o%20args"),
        get("/containers/d-use/top?ps_args=-C%20nosuch%20-o%20pid"),
        post("/containers/d-use/kill"),
        post("/containers/d-use/wait"),
        get("/containers/d-use/stats?stream=0"),
        delete("/containers/d-use"),
    ],
    "use of the disk": [
        make("d-use", Labels={"a": "b"}, HostConfig={"Binds": ["d-vol:/data"], "Annotations": {"x": "y"}}),
        get("/system/df"),
        get("/system/df?type=container"),
        get("/system/df?type=volume&type=build-cache"),
        get("/containers/json?all=1&size=1"),
        delete("/containers/d-use"),
        delete("/volumes/d-vol"),
    ],
}

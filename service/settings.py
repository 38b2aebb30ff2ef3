"""Where things are and how the service behaves. Nothing else in the project reads the environment or assumes uid 0.

Every setting is an environment variable `MOORAGE_…`; the same variables travel with conmon to the exit hook, so that
the service, the hook and the boot unit always see one configuration. Only proxies keep the names they have everywhere.
Standard library only.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Settings:
    """One configuration, read once at start.

    `root` holds what must survive a reboot, `run` what must not (both absolute paths). Times are in seconds.
    """

    __slots__ = (
        "auth_files",
        "bridge",
        "cdi_directories",
        "certs_directory",
        "cgroup_driver",
        "cgroup_parent",
        "conmon",
        "daemon_json",
        "given",
        "home",
        "http_proxy",
        "https_proxy",
        "idle_window",
        "insecure_registries",
        "log_level",
        "nft_table",
        "no_proxy",
        "plugin_directories",
        "python",
        "registries_conf",
        "registry_mirrors",
        "root",
        "run",
        "runtime",
        "subnets",
        "system_bus",
    )

    def __init__(self, environment: "Mapping[str, str] | None" = None) -> None:
        env = os.environ if environment is None else environment
        rootful = os.geteuid() == 0
        home = self.home = env.get("HOME") or ("/root" if rootful else "/")
        configuration = env.get("XDG_CONFIG_HOME") or home + "/.config"
        data = "/var/lib" if rootful else env.get("XDG_DATA_HOME", home + "/.local/share")
        runtime_dir = "/run" if rootful else env.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        self.given = {name: value for name, value in env.items() if name.startswith("MOORAGE_")}
        self.root = env.get("MOORAGE_ROOT", data + "/moorage")
        self.run = env.get("MOORAGE_RUN", runtime_dir + "/moorage")
        self.idle_window = float(env.get("MOORAGE_IDLE_SECONDS", "30"))
        self.runtime = env.get("MOORAGE_RUNTIME", "")  # empty: runc, looked up in PATH
        self.conmon = env.get("MOORAGE_CONMON", "")  # empty: conmon, looked up in PATH
        self.python = env.get("MOORAGE_PYTHON", "/usr/bin/python3")  # runs the exit hook (stdlib only)
        self.bridge = env.get("MOORAGE_BRIDGE", "moorage0")  # the default network's interface
        self.nft_table = env.get("MOORAGE_NFT_TABLE", "moorage")
        self.subnets = env.get("MOORAGE_SUBNETS", "")  # "10.10.0.0/16/24,…": pools for networks; empty: Docker's own
        self.cgroup_driver = env.get("MOORAGE_CGROUP_DRIVER", "")  # cgroupfs | systemd; empty: by what PID 1 is
        self.cgroup_parent = env.get("MOORAGE_CGROUP_PARENT", "moorage")
        listed = env.get("MOORAGE_CDI_DIRS", "/etc/cdi:/var/run/cdi").split(":")
        self.cdi_directories = [folder for folder in listed if folder]  # of vendors' device files; the last one wins
        self.plugin_directories = env.get(  # the first has sockets, the others descriptions
            "MOORAGE_PLUGIN_DIRS", "/run/docker/plugins:/etc/docker/plugins:/usr/lib/docker/plugins"
        ).split(":")
        self.insecure_registries = env.get("MOORAGE_INSECURE_REGISTRIES", "")  # "host:port,…": plain HTTP is allowed
        self.registry_mirrors = env.get("MOORAGE_REGISTRY_MIRRORS", "").replace(",", " ").split()  # URLs; of Docker Hub
        self.certs_directory = env.get("MOORAGE_CERTS_DIR", "/etc/docker/certs.d")  # certificates by registry
        self.daemon_json = env.get(
            "MOORAGE_DAEMON_JSON", "/etc/docker/daemon.json" if rootful else configuration + "/docker/daemon.json"
        )
        listed = env.get("MOORAGE_REGISTRIES_CONF", "/etc/containers/registries.conf").split(":")
        own = [] if rootful or "MOORAGE_REGISTRIES_CONF" in env else [configuration + "/containers/registries.conf"]
        self.registries_conf = [*own, *listed]  # the first that exists
        listed = [env.get("DOCKER_CONFIG", home + "/.docker") + "/config.json", runtime_dir + "/containers/auth.json"]
        if rootful:
            listed[1] = "/run/containers/0/auth.json"
        listed.append(configuration + "/containers/auth.json")
        self.auth_files = (
            [env["MOORAGE_AUTH_FILE"]] if "MOORAGE_AUTH_FILE" in env else listed
        )  # the server's own logins
        # proxies have the names that every program reads, in either case
        self.http_proxy, self.https_proxy, self.no_proxy = (
            env.get(name) or env.get(name.lower(), "") for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
        )
        self.system_bus = env.get("DBUS_SYSTEM_BUS_ADDRESS", "")  # empty: where D-Bus itself looks for it
        self.log_level = env.get("MOORAGE_LOG_LEVEL", "")  # empty: what daemon.json says, or info

    @property
    def database(self) -> str:
        """The file of the store."""
        return self.root + "/moorage.db"

    @property
    def bell(self) -> str:
        """The file that every process touches after it has written an event (watched by inotify)."""
        return self.run + "/bell"

    @property
    def mirrors(self) -> str:
        """Copies of clients' directories, from which builds copy (`service.content.mirror`)."""
        return self.root + "/mirrors"

    @property
    def build_records(self) -> str:
        """What finished builds have said (`service.content.build_records`)."""
        return self.root + "/build-history"

    @property
    def keeper_lock(self) -> str:
        """The file that the keeper holds locked as long as it lives."""
        return self.run + "/keeper.lock"

    @property
    def monitors_group(self) -> str:
        """The control group of what must outlive the service (conmon, the keeper), beside the containers' own."""
        if self.cgroup_parent.endswith(".slice"):
            return "/moorage/conmon"
        return f"/{self.cgroup_parent.strip('/')}/conmon"

    def container_root(self, container_id: str) -> str:
        """What a container keeps across reboots: writable layer, log, resolv.conf and the like."""
        return f"{self.root}/containers/{container_id}"

    def container_log(self, container_id: str) -> str:
        """The file that conmon writes a container's output to; its earlier parts lie beside it."""
        return self.container_root(container_id) + "/ctr.log"

    def container_run(self, container_id: str) -> str:
        """What a container has only while it runs: bundle, mount point, sockets, pid files."""
        return f"{self.run}/containers/{container_id}"

    def environment(self) -> dict[str, str]:
        """The environment of the processes we start: a PATH and our own settings, nothing inherited by accident."""
        return {"PATH": PATH, "LANG": "C.UTF-8", **self.given}


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_program(name: str) -> str:
    """The full path of a program. Raises FileNotFoundError naming it."""
    if "/" in name:
        return name
    for folder in PATH.split(":"):
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise FileNotFoundError(f"{name} is not installed (looked in {PATH})")

"""Legacy links: one container knows another by an alias (--link), in /etc/hosts, in variables, in names."""

import json
from collections.abc import Iterator

import pytest
from docker import DockerClient
from docker.errors import APIError, NotFound

from tests.support.instance import Instance


@pytest.fixture
def db(moorage: Instance) -> Iterator[str]:
    """A running container `db` that others link to."""
    moorage.docker(
        "run", "-d", "--name", "db", "--hostname", "dbhost", "-e", "FOO=bar", "--expose", "5432-5434",
        "--expose", "9/udp", "busybox", "sleep", "600",
    )  # fmt: skip
    yield "db"
    moorage.docker("rm", "-f", "db", check=False)


@pytest.fixture
def web(moorage: Instance, db: str) -> Iterator[str]:
    """A running container `web` that calls it `database`."""
    moorage.docker("run", "-d", "--name", "web", "--link", f"{db}:database", "busybox", "sleep", "600")
    yield "web"
    moorage.docker("rm", "-f", "web", check=False)


def address(moorage: Instance, container: str) -> str:
    return moorage.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", container).stdout.strip()


def hosts(moorage: Instance, container: str) -> list[str]:
    return moorage.docker("exec", container, "cat", "/etc/hosts").stdout.splitlines()


def links(moorage: Instance, container: str) -> list[str] | None:
    shown = json.loads(moorage.docker("inspect", "-f", "{{json .HostConfig.Links}}", container).stdout)
    return sorted(shown) if shown else None


def names(client: DockerClient, container: str) -> list[str]:
    found: list[str] = client.api.containers(filters={"name": f"^{container}$"}, all=True)[0]["Names"]
    return found


def test_an_alias_in_hosts_and_variables(moorage: Instance, web: str) -> None:
    ip = address(moorage, "db")
    assert f"{ip}\tdatabase dbhost db" in hosts(moorage, web)
    told = moorage.docker("exec", web, "env").stdout.splitlines()
    assert {
        f"DATABASE_PORT=tcp://{ip}:5432", f"DATABASE_PORT_5433_TCP_ADDR={ip}", "DATABASE_PORT_5433_TCP_PORT=5433",
        "DATABASE_PORT_9_UDP_PROTO=udp", f"DATABASE_PORT_5432_TCP_START=tcp://{ip}:5432",
        "DATABASE_PORT_5432_TCP_PORT_END=5434", "DATABASE_NAME=/web/database", "DATABASE_ENV_FOO=bar",
    } <= set(told)  # fmt: skip
    assert not [line for line in told if line.startswith(("DATABASE_ENV_PATH", "DATABASE_ENV_HOME"))]
    assert moorage.docker("exec", web, "ping", "-c", "1", "-W", "5", "database").returncode == 0


def test_names_and_their_changes(moorage: Instance, client: DockerClient, web: str) -> None:
    assert links(moorage, web) == ["/db:/web/database"]
    assert links(moorage, "db") is None
    assert names(client, "db") == ["/db", "/web/database"]
    assert client.containers.get("web/database").name == "db"
    moorage.docker("rename", "web", "www")
    moorage.docker("rename", "db", "postgres")
    try:
        assert links(moorage, "www") == ["/postgres:/www/database"]
        assert names(client, "postgres") == ["/postgres", "/www/database"]
    finally:
        moorage.docker("rename", "www", "web")
        moorage.docker("rename", "postgres", "db")


def test_what_inspect_shows_can_be_asked_for(moorage: Instance, client: DockerClient, web: str) -> None:
    shown = client.api.inspect_container(web)["HostConfig"]["Links"]
    made = client.api.create_container_from_config(
        {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Links": [*shown, "db", "db:database"]}}, name="again"
    )
    try:
        assert links(moorage, made["Id"]) == ["/db:/again/database", "/db:/again/db"]
    finally:
        client.api.remove_container(made["Id"])


def test_the_linked_container_comes_back_elsewhere(moorage: Instance, web: str) -> None:
    before = address(moorage, "db")
    moorage.docker("exec", web, "sh", "-c", "echo '192.0.2.7\tmine' >>/etc/hosts")
    moorage.docker("stop", "-t", "0", "db")
    moorage.docker("run", "-d", "--name", "squatter", "busybox", "sleep", "600")
    try:
        assert address(moorage, "squatter") == before
        moorage.docker("start", "db")
        after = address(moorage, "db")
        assert after != before
        assert f"{after}\tdatabase dbhost db" in hosts(moorage, web)
        assert "192.0.2.7\tmine" in hosts(moorage, web), "what the user wrote stays"
    finally:
        moorage.docker("rm", "-f", "squatter")


def test_removing_only_the_link(moorage: Instance, client: DockerClient, web: str) -> None:
    for reference, error, complaint in (
        ("web/nosuch", NotFound, "No such container: web/nosuch"),
        ("web", APIError, "Conflict, cannot remove the default link name of the container"),
    ):
        with pytest.raises(error, match=complaint):
            client.api.remove_container(reference, link=True)
    moorage.docker("rm", "--link", "web/database")
    assert links(moorage, web) is None
    assert names(client, "db") == ["/db"]
    assert "database" not in "\n".join(hosts(moorage, web))
    assert client.containers.get("db").status == "running"
    with pytest.raises(NotFound):
        client.containers.get("web/database")


def test_a_link_to_what_does_not_run(moorage: Instance, web: str) -> None:
    moorage.docker("stop", "-t", "0", "db", web)
    said = moorage.docker("start", web, check=False).stderr
    assert "Cannot link to a non running container: /db AS /web/database" in said
    moorage.docker("rm", "db")
    assert links(moorage, web) == ["/db:/web/database"]
    assert "Cannot link to a non running container: /db AS" in moorage.docker("start", web, check=False).stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--link", "nosuch:x"), "could not get container for nosuch: No such container: nosuch"),
        (("--network", "host", "--link", "db:x"), "host type networking can't be used with links"),
        (("--network", "container:db", "--link", "db:x"), "links are only supported for user-defined networks"),
    ],
)
def test_links_that_cannot_be(moorage: Instance, db: str, words: tuple[str, ...], complaint: str) -> None:
    done = moorage.docker("run", "--rm", *words, "busybox", "true", check=False)
    assert done.returncode == 125
    # the CLI says it first, in the words of its age
    conflicts = (
        "type network can't be used with links",
        "links are only supported for user-defined networks",
        complaint,
    )
    assert any(text in done.stderr for text in conflicts), done.stderr


def test_links_on_a_network_of_ones_own(moorage: Instance) -> None:
    """They are aliases there, known to nobody else; the other one may come later, and go."""
    moorage.docker("network", "create", "own")
    try:
        words = ("run", "-d", "--network", "own")
        moorage.docker(*words, "--name", "caller", "--link", "later:alias", "busybox", "sleep", "600")
        assert links(moorage, "caller") is None

        def found(name: str) -> str:
            said = moorage.docker("exec", "caller", "nslookup", "-type=a", name, "127.0.0.11", check=False).stdout
            return said.rpartition("Address: ")[2].strip() if "Address: " in said else ""

        assert found("alias") == ""
        moorage.docker(*words, "--name", "later", "busybox", "sleep", "600")
        shown = moorage.docker("inspect", "-f", "{{.NetworkSettings.Networks.own.IPAddress}}", "later").stdout.strip()
        moorage.until(lambda: found("alias") == shown, 60, "the alias is not found")
        other = moorage.docker("exec", "later", "nslookup", "-type=a", "alias", "127.0.0.11", check=False).stdout
        assert shown not in other
        moorage.docker("network", "disconnect", "own", "caller")
        moorage.docker("network", "connect", "--link", "later:second", "own", "caller")
        moorage.until(lambda: found("second") == shown, 60, "the alias of a connect is not found")
        assert found("alias") == ""
    finally:
        moorage.docker("rm", "-f", "caller", "later", check=False)
        moorage.docker("network", "rm", "own")

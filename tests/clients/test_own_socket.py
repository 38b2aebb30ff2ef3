"""A container that is given the service's own socket, as reapers and dashboards are: what it asks wakes the service."""

import json
import os
from pathlib import Path

from tests.support.instance import Instance
from tests.support.streams import inspect

# What the reaper of Testcontainers asks for, in its order; the Python that runs it is this machine's.
REAPER = """
import http.client, json, socket, urllib.parse
class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")
def ask(method, path, **filters):
    wanted = urllib.parse.quote(json.dumps({"label": ["session=one"], **filters}))
    connection = Connection("localhost")
    connection.request(method, path + ("&" if "?" in path else "?") + "filters=" + wanted)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status < 300, (method, path, answer.status, body)
    return json.loads(body) if body else None
open("/gate/begin").close()
for container in ask("GET", "/v1.44/containers/json?all=1"):
    ask("DELETE", f"/v1.44/containers/{container['Id']}?force=1&v=1")
for network in ask("GET", "/v1.44/networks"):
    ask("DELETE", f"/v1.44/networks/{network['Id']}")
for volume in ask("GET", "/v1.44/volumes")["Volumes"]:
    ask("DELETE", f"/v1.44/volumes/{volume['Name']}?force=1")
for image in ask("GET", "/v1.44/images/json", dangling=["false"]):
    ask("DELETE", f"/v1.44/images/{image['Id']}?force=1")
print("reaped")
"""


def test_a_reaper(moorage: Instance, tmp_path: Path) -> None:
    label = ("--label", "session=one")
    moorage.docker("network", "create", *label, "session")
    moorage.docker("volume", "create", *label, "session")
    moorage.docker("run", "-d", *label, "--network=session", "-v", "session:/v", "busybox", "sleep", "1000")
    moorage.docker("create", *label, "--name", "unstarted", "busybox")
    moorage.docker("build", "-q", *label, "-t", "session", "-", stdin="FROM busybox\nENV A=b\n")
    moorage.docker("run", "-d", "--name", "bystander", "busybox", "sleep", "1000")
    system = [word for place in ("/usr", "/lib", "/lib64") for word in ("-v", f"{place}:{place}:ro")]
    os.mkfifo(tmp_path / "begin")
    mounts = ("-v", f"{moorage.socket}:/var/run/docker.sock", "-v", f"{tmp_path}:/gate", *system)
    moorage.docker("run", "-d", "--name", "reaper", *mounts, "busybox", "/usr/bin/python3", "-c", REAPER)
    moorage.kill_service()  # who listens lives on; the container's first call starts the service again
    os.close(os.open(tmp_path / "begin", os.O_WRONLY))  # opens when the reaper reads
    assert moorage.docker("wait", "reaper").stdout == "0\n", moorage.docker("logs", "reaper").stderr
    moorage.docker("rm", "reaper")
    listed = json.loads(moorage.docker("ps", "-a", "--format", "json").stdout)
    assert listed["Names"] == "bystander"
    assert inspect(moorage, "bystander")["State"]["Running"]
    assert moorage.docker("volume", "ls", "-q").stdout == ""
    assert "session" not in moorage.docker("network", "ls", "--format", "{{.Name}}").stdout
    assert moorage.docker("images", "--format", "{{.Repository}}").stdout == "busybox\n"

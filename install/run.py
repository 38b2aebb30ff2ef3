"""`make run`: the service listening on this machine, and a first container through it."""

import compileall
import os
import shutil
import subprocess
import tempfile

from install import api, busybox_image, service
from install.service import say

GREETING = ("busybox:latest", "echo", "Hello from a container: nothing of moorage will be running in half a minute.")


def main() -> None:
    """Raises SystemExit with a sentence when the machine refuses."""
    if os.geteuid():
        raise SystemExit("make run needs root (docs/rootless.md)")
    compileall.compile_dir(f"{service.ROOT}/service", quiet=1)
    compileall.compile_dir(f"{service.ROOT}/compat_api", quiet=1)
    service.start()
    load_busybox()
    run_container()
    say("")
    say("The socket listens. Point a Docker client at it:")
    say("")
    say(f"    export DOCKER_HOST={service.DOCKER_HOST}")


def load_busybox() -> None:
    """Have `busybox:latest` in the service."""
    status, said = api.call("GET", "/images/busybox:latest/json")
    if status == 200:
        return
    if status != 404:
        raise SystemExit(f"the service answered {status}: {said}")
    with tempfile.TemporaryDirectory() as folder:
        archive = f"{folder}/busybox.tar"
        busybox_image.write_busybox(archive)
        with open(archive, "rb") as body:
            status, said = api.call("POST", "/images/load", body)
    if status != 200 or (isinstance(said, dict) and "error" in said):
        raise SystemExit(f"busybox could not be loaded: {status} {said}")
    say("loaded busybox:latest, made from /bin/busybox")


def run_container() -> None:
    """Run one through the docker CLI where there is one, else through docker-py."""
    if shutil.which("docker"):
        say(f"$ docker run --rm {' '.join(GREETING)}")
        environment = {**os.environ, "DOCKER_HOST": service.DOCKER_HOST}
        if subprocess.run(["docker", "run", "--rm", *GREETING], env=environment, check=False).returncode:
            raise SystemExit("the container could not be run")
        return
    import docker

    say(f">>> docker.from_env().containers.run({GREETING[0]!r}, {list(GREETING[1:])!r}, remove=True)")
    client = docker.DockerClient(base_url=service.DOCKER_HOST, version="auto")
    say(client.containers.run(GREETING[0], list(GREETING[1:]), remove=True).decode().rstrip())


if __name__ == "__main__":
    main()

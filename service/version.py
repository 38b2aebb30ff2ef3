"""What we say we are. Clients compare these with Docker's numbers, so they are in Docker's number space."""

MOORAGE = "0.1.0"
DOCKER = "28.5.2"  # the Docker Engine whose API we serve: clients choose code paths by it
API = (1, 51)  # advertised; docker-py takes it unclamped and needs fields that 1.52 removed
API_MINIMUM = (1, 24)


def api_text(version: tuple[int, int] = API) -> str:
    """ "1.51" """
    return f"{version[0]}.{version[1]}"

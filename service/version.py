"""What we say we are. Clients compare these with Docker's numbers, so they are in Docker's number space."""

MOORAGE = "0.1.0"
DOCKER = "29.7.2"  # the Docker Engine whose API we serve: clients choose code paths by it
API = (1, 55)
API_BEFORE_FIELDS_WENT = (1, 51)  # named to clients that take whatever version they are told and read the fields of old
API_MINIMUM = (1, 24)


def api_text(version: tuple[int, int] = API) -> str:
    """ "1.55" """
    return f"{version[0]}.{version[1]}"

"""moorage: the Docker Engine API without the daemon. The engine and everything under it; HTTP stands in compat_api."""

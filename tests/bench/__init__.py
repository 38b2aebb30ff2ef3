"""Measurements beside dockerd and podman in one run. Not tests: nothing here fails for being slow."""

"""What `make run` and `make uninstall` do to a machine. Never imported by the service."""

"""The kernel's interfaces, thinly: named as the man pages name them, raising OSError, knowing nothing of containers."""

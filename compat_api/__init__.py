"""Docker's wire: HTTP, JSON shapes, streams and API versions. No paths, no processes."""

"""Bytes on their way: framing, bodies, hijacked connections."""

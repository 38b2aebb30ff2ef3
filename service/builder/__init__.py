"""Dockerfiles: what they say. Pure: nothing here touches files, processes or the network."""

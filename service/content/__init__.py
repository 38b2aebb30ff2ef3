"""Images at rest and on the wire: names, registries, archives, layers, root file systems."""

"""The craft of networks: bridges, endpoints, addresses, ports and the packet filter."""

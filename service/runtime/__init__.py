"""From a stored container to a process under a monitor, and back: the OCI config, runc, conmon and what they leave."""

"""What is stored, in Docker's and OCI's words: TypedDicts, so that nothing is imported at run time."""

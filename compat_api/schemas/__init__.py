"""Request bodies as pydantic models, one module per resource; imported only where a body is validated."""

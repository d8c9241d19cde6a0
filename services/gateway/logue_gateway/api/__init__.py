"""The public HTTP API, one module per resource. Each route tells its request's story from top to bottom."""

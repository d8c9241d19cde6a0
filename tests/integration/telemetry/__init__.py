"""A package, so that its running system (scope="package") ends with its last test."""

"""The internal HTTP API: thin edges around handlers.py."""

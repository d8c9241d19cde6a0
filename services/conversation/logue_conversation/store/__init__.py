"""The queries of the HTTP API, one file a table. Every one starts with user_id."""

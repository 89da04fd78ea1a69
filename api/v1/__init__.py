"""Version 1 of the HTTP API, one resource a module."""

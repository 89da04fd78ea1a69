"""The faces: HTTP API, console, command line."""

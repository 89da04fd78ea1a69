"""The gateway's face: a read-only OCI distribution API over plain sockets (docs/adr/0031)."""

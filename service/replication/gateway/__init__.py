"""The gateway: images under one name, whatever registry stands behind it (issue 10, docs/adr/0031)."""

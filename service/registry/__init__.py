"""The OCI distribution API over HTTP."""

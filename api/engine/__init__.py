"""One machine: data directory, embedded Redis, child processes."""

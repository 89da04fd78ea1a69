"""Values and their rules: standard library only, no I/O."""

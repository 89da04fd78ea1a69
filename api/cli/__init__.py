"""The transship command."""

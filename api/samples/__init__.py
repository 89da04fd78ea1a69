"""Sample registry and sample fleet: for the demo and the tests."""

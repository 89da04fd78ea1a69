"""Thin task bodies: decode, call the service, return an outcome."""

"""What registries tell us by webhook: one module a provider, pure functions from bytes to hints."""

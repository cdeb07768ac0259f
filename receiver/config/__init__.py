"""The configuration: environment and receiver.toml."""

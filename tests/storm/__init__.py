"""A storm over trials, promotion and approval: kills at every step, and Edgegap misbehaving."""

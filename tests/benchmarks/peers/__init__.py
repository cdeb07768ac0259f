"""What others do with a webhook: nothing is stored by any of them, and no token is checked."""

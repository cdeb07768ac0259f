"""What the outside parties promise, as documents, and the checks against them."""

"""The receiver's tests."""

import sys

# jsonschema would import it to check IRIs, which we have none of: 4 s of each test process.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

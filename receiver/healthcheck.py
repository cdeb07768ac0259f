"""`python3 -m receiver.healthcheck`: the image's HEALTHCHECK; exit code 0 if the receiver is alive.

It has few imports, because the container engine runs it every few seconds. It uses no proxy.
"""

import http.client
import os
import sys

SECONDS = 2.0
# Addresses to listen on that cannot be called, and the address to call instead.
ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not listened on here
ALIVE = 200
AROUND = " \t\r\n\"'[]"  # brackets, and the quotes that `docker run --env-file` keeps


def main() -> int:
    """Request /livez at HOST and PORT."""
    host = os.environ.get("HOST", "").strip(AROUND)
    port = os.environ.get("PORT", "").strip(AROUND) or "8000"
    try:
        connection = http.client.HTTPConnection(ANY.get(host, host), int(port), timeout=SECONDS)
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.stderr.write(f"no answer at port {port} of {host or 'this machine'}: {error}\n")
        return 1
    sys.stderr.write(f"HTTP {status}\n")
    return int(status != ALIVE)


if __name__ == "__main__":
    sys.exit(main())

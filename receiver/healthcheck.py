"""`python3 -m receiver.healthcheck`: the image's HEALTHCHECK; exit code 0 if the receiver is alive.

It imports little, since an engine runs it every few seconds, and uses no proxy.
"""

import http.client
import os
import sys

SECONDS = 2.0
# An address to listen on that is none to call, and the one to call for it.
ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not listened on here
ALIVE = 200
AROUND = " \t\r\n\"'[]"  # brackets, and what `docker run --env-file` leaves around a value


def main() -> int:
    """Ask where HOST and PORT say that it listens."""
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

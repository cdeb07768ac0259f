"""`python3 -m receiver.healthcheck`: the image's HEALTHCHECK; exit code 0 if the receiver is alive.

It has few imports, because the container engine runs it every few seconds: it reads the variables
as `serve` does, `.env` included, but no receiver.toml. It uses no proxy.
"""

import http.client
import os
import sys

from receiver.config.environment import DEFAULTS, read_variable
from receiver.config.variables import variables_of

SECONDS = 2.0
# Addresses to listen on that cannot be called, and the address to call instead.
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not listened on here
ALIVE = 200


def main() -> int:
    """Request /livez at HOST and PORT."""
    variables = variables_of(os.environ)
    host = (read_variable(variables, "HOST") or DEFAULTS["HOST"]).strip("[]")
    port = read_variable(variables, "PORT") or DEFAULTS["PORT"]
    try:
        number = int(float(port))  # as `serve` reads it
        connection = http.client.HTTPConnection(ANY.get(host, host), number, timeout=SECONDS)
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        line = f"no answer at port {port} of {host}: {error}"
        sys.stderr.write(" ".join(line.split()) + "\n")
        return 1
    sys.stderr.write(f"HTTP {status}\n")
    return int(status != ALIVE)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m receiver.sandbox`: the Edgegap stand-in alone, in the foreground."""

import argparse
import signal
import sys
import time

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving


def main() -> None:
    """Serve until interrupted or terminated."""
    parser = argparse.ArgumentParser(prog="python -m receiver.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 takes a free one")
    parser.add_argument("--app", action="append", help="an app that exists; may be repeated")
    parser.add_argument("--token", default="sandbox-token")
    parser.add_argument("--version-limit", type=int, help="as on Edgegap's free tier: 2")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds for each call")
    asked = parser.parse_args()
    sandbox = EdgegapSandbox(
        token=asked.token,
        apps=asked.app or ["my-game"],
        version_limit=asked.version_limit,
        latency=asked.latency,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with serving(sandbox.app, host=asked.host, port=asked.port) as url:
        # Flushed, for whoever reads them through a pipe before going on.
        print(f"EDGEGAP_BASE_URL={url}", flush=True)
        print(f"EDGEGAP_TOKEN={asked.token}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()

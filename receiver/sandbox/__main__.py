"""`python -m receiver.sandbox`: the stand-ins alone, in the foreground: Edgegap's, Docker Hub's."""

import argparse
import contextlib
import signal
import sys
import time

from receiver.sandbox.dockerhub import DockerHubSandbox
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
    parser.add_argument("--dockerhub-port", type=int, help="Docker Hub too; 0 takes a free one")
    asked = parser.parse_args()
    sandbox = EdgegapSandbox(
        token=asked.token,
        apps=asked.app or ["my-game"],
        version_limit=asked.version_limit,
        latency=asked.latency,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as served:
        url = served.enter_context(serving(sandbox.app, host=asked.host, port=asked.port))
        # Flushed, for whoever reads them through a pipe before going on.
        print(f"EDGEGAP_BASE_URL={url}", flush=True)
        print(f"EDGEGAP_TOKEN={asked.token}", flush=True)
        if asked.dockerhub_port is not None:
            hub = serving(DockerHubSandbox().app, host=asked.host, port=asked.dockerhub_port)
            url = served.enter_context(hub)
            print(f"DOCKERHUB_REGISTRY_URL={url}", flush=True)
            print(f"DOCKERHUB_AUTH_URL={url}/token", flush=True)
            print(f"DOCKERHUB_API_URL={url}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()

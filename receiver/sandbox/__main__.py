"""`python -m receiver.sandbox` runs the fakes of Edgegap and Docker Hub in the foreground."""

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
    parser.add_argument("--port", type=int, default=9000, help="0 for any free port")
    parser.add_argument("--app", action="append", help="an app that exists; may be repeated")
    parser.add_argument("--token", default="sandbox-token")
    parser.add_argument(
        "--version-limit", type=int, help="maximum versions per app; 2 on Edgegap's free tier"
    )
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each response")
    parser.add_argument(
        "--dockerhub-port", type=int, help="also run Docker Hub; 0 for any free port"
    )
    arguments = parser.parse_args()
    sandbox = EdgegapSandbox(
        token=arguments.token,
        apps=arguments.app or ["my-game"],
        version_limit=arguments.version_limit,
        latency=arguments.latency,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as served:
        url = served.enter_context(serving(sandbox.app, host=arguments.host, port=arguments.port))
        # Flushed for readers of a pipe, which wait for these lines.
        print(f"EDGEGAP_BASE_URL={url}", flush=True)
        print(f"EDGEGAP_TOKEN={arguments.token}", flush=True)
        if arguments.dockerhub_port is not None:
            hub = serving(
                DockerHubSandbox().app, host=arguments.host, port=arguments.dockerhub_port
            )
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

"""`python -m receiver.sandbox` runs the sandboxes of Edgegap and Docker Hub in the foreground.

With `--dockerhub-port` it prints all that a receiver needs to be tried without accounts.
"""

import argparse
import contextlib
import json
import signal
import sys
import time

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving

REPOSITORY = "studio/game-server"
USER = REPOSITORY.partition("/")[0]
ACCESS_TOKEN = "sandbox-access-token"  # noqa: S105  # of the user at Docker Hub; valid only here
FIRST = "1.0.0"
A_DAY = 86_400


def _furnish(edgegap: EdgegapSandbox, hub: DockerHubSandbox) -> None:
    """Add a first version to each app, whose settings are copied, and a user who may do all."""
    hub.add_login(USER, ACCESS_TOKEN, "admin")
    hub.add_repository(REPOSITORY)
    hub.push_image(REPOSITORY, FIRST, pushed_at=time.time() - A_DAY)
    port = {"port": 7777, "protocol": "UDP", "to_check": True, "tls_upgrade": False, "name": "game"}
    for app in edgegap.apps:
        edgegap.add_version(
            app,
            FIRST,
            docker_image=REPOSITORY,
            docker_tag=FIRST,
            req_cpu=1024,
            req_memory=2048,
            ports=[port],
        )


def main() -> None:
    """Serve until interrupted or terminated."""
    parser = argparse.ArgumentParser(
        prog="python -m receiver.sandbox",
        description="Run the sandboxes of Edgegap and Docker Hub until Ctrl-C.",
        epilog="See docs/try-it.md.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; default 127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=9000, help="of Edgegap; default 9000, 0: any free one"
    )
    parser.add_argument(
        "--app", action="append", help="an app of Edgegap; may be repeated; default my-game"
    )
    parser.add_argument(
        "--token", default="sandbox-token", help="of Edgegap; default sandbox-token"
    )
    parser.add_argument(
        "--version-limit", type=int, help="maximum versions per app; 2 on Edgegap's free tier"
    )
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each response")
    parser.add_argument(
        "--dockerhub-port",
        type=int,
        help=f"also run Docker Hub, with the repository {REPOSITORY}; 0: any free port",
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
            hub = DockerHubSandbox()
            _furnish(sandbox, hub)
            url = served.enter_context(
                serving(hub.app, host=arguments.host, port=arguments.dockerhub_port)
            )
            print(f"DOCKERHUB_REGISTRY_URL={url}", flush=True)
            print(f"DOCKERHUB_AUTH_URL={url}/token", flush=True)
            print(f"DOCKERHUB_API_URL={url}", flush=True)
            print(f"\n# Docker Hub: the user {USER}, access token {ACCESS_TOKEN}", flush=True)
            push = json.dumps({"push": [{"repository": REPOSITORY, "tag": "1.0.1"}]})
            print(f"# Push a tag:\n#   curl -d '{push}' {url}/_sandbox/state", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()

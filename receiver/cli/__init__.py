"""The command line. Each command is a file's worth; all of them hang on `main`."""

import click

from receiver.cli.check import check, link
from receiver.cli.demo import demo
from receiver.cli.exits import EPILOG
from receiver.cli.looking import deliveries, show
from receiver.cli.pushing import push
from receiver.cli.replaying import replay
from receiver.cli.serve import serve
from receiver.cli.tokens import api_token


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(package_name="docker-hub-receiver", prog_name="receiver")
def main() -> None:
    """Register each tag pushed to Docker Hub as an Edgegap app version, hands-off.

    \b
    Begin with:
      receiver demo                      see it work, no account needed
      receiver check                     is the configuration sound?
      receiver serve                     run it
      receiver link studio/game-server   the link to paste into Docker Hub

    Secrets come from the environment (RECEIVER_SECRET_KEY, EDGEGAP_TOKEN, DOCKERHUB_USERNAME,
    DOCKERHUB_TOKEN; each also as NAME_FILE), the rest from receiver.toml.
    """


for command in (serve, demo, check, link, push, deliveries, show, replay, api_token):
    main.add_command(command)

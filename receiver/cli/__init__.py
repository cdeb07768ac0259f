"""The command line. Each command is a file's worth; all of them hang on `main`."""

import os
from pathlib import Path

import click

from receiver.cli.catching_up import catch_up
from receiver.cli.channels import channels, promote, release, rollback
from receiver.cli.check import check, link
from receiver.cli.demo import demo
from receiver.cli.doctor import doctor
from receiver.cli.dotenv import read_dotenv
from receiver.cli.exits import EPILOG
from receiver.cli.init import init
from receiver.cli.ledgers import ledger
from receiver.cli.looking import deliveries, show
from receiver.cli.noticing import notify_test
from receiver.cli.pushing import push
from receiver.cli.replaying import replay
from receiver.cli.serve import serve
from receiver.cli.steering import pause, resume, retire
from receiver.cli.tokens import api_token
from receiver.environment import FILE_SUFFIX
from receiver.version import VERSION


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(VERSION, prog_name="receiver")
def main() -> None:
    """Register each tag pushed to Docker Hub as an Edgegap app version, hands-off.

    \b
    Begin with:
      receiver demo                      see it work, no account needed
      receiver init                      write the configuration, step by step
      receiver doctor                    find what will go wrong before it does
      receiver serve                     run it
      receiver link studio/game-server   the link to paste into Docker Hub

    Secrets come from the environment (RECEIVER_SECRET_KEY, EDGEGAP_TOKEN, DOCKERHUB_USERNAME,
    DOCKERHUB_TOKEN; each also as NAME_FILE) or a file .env here, the rest from receiver.toml.
    """
    given = dict(os.environ)
    for name, value in read_dotenv(Path(".env")).items():
        if not given.get(name + FILE_SUFFIX, "").strip():  # else it comes from that file
            os.environ.setdefault(name, value)


COMMANDS = (
    serve, demo, init, check, doctor, link, api_token, deliveries, show, push, replay, catch_up,
    channels, rollback, promote, release, pause, resume, retire, notify_test, ledger,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)

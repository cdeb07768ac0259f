"""The command line. Each command is a file's worth; all of them hang on `main`."""

import os

import click

from receiver.cli.catching_up import catch_up
from receiver.cli.channels import channels, promote, release, rollback
from receiver.cli.check import check, link
from receiver.cli.demo import demo
from receiver.cli.dismissing import dismiss
from receiver.cli.doctor import doctor
from receiver.cli.exits import EPILOG
from receiver.cli.init import init
from receiver.cli.ledgers import ledger
from receiver.cli.looking import deliveries, show
from receiver.cli.noticing import notify_test
from receiver.cli.program import Program
from receiver.cli.pruning import prune
from receiver.cli.pushing import push
from receiver.cli.replaying import replay
from receiver.cli.serve import serve
from receiver.cli.steering import open_gate, pause, resume
from receiver.cli.tokens import api_token
from receiver.variables import variables_of
from receiver.version import VERSION


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(VERSION, prog_name="receiver")
@click.pass_context
def main(context: click.Context) -> None:
    """Register each tag pushed to Docker Hub as an Edgegap app version, hands-off.

    \b
    Begin with:
      receiver demo                      see it work, no account needed
      receiver init                      write the configuration, step by step
      receiver doctor                    find what will go wrong before it does
      receiver serve                     run it
      receiver link studio/game-server   the link to paste into Docker Hub

    Secrets come from the environment (RECEIVER_SECRET_KEY, EDGEGAP_TOKEN, DOCKERHUB_USERNAME,
    DOCKERHUB_TOKEN; each also as NAME_FILE) or a file .env, here or beside receiver.toml; the rest
    comes from receiver.toml.
    """
    context.obj = dict(os.environ)  # what a reload begins with
    os.environ.update(variables_of(os.environ).from_dotenv)  # proxies and certificates


COMMANDS = (
    serve, demo, init, check, doctor, link, api_token, deliveries, show, push, replay, dismiss,
    catch_up, channels, rollback, promote, release, pause, resume, open_gate, prune, notify_test,
    ledger,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)

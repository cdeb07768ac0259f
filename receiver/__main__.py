"""`python -m receiver`: the same as the command `receiver`."""

from receiver.cli import main

main(prog_name="receiver")

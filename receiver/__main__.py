"""`python -m receiver`: the same as the command `receiver`."""

from receiver.start import main

main()

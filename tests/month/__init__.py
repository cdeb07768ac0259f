"""A month of a studio in minutes: `python -m tests.month`.

Real: the receiver's application with all that runs beside it, its SQLite ledger on a disk with
every commit saved, the sandboxes of Edgegap and Docker Hub and their faults, the HTTP client.

Injected: the clock, the network and the ledger's threads. `time.time`, `time.time_ns`,
`time.monotonic` and the event loop show one clock. It jumps to the next timer when nothing is left
to do, so that nobody waits. Requests go to the applications within this process, without sockets:
the network has the latency, and breaks off and times out as the fault says. The ledger reads and
commits in the loop's own thread, so that a seed repeats a month. Docker Hub's webhooks are sent by
the month, which also loses, delays and repeats them.
"""

"""The ledger's writer without its thread."""

import asyncio

from receiver.ledger.writer import Writer


class WriterAtOnce(Writer):
    """Commits what the loop brings in one turn, in the loop's own thread."""

    def _hand_over(self, loop: asyncio.AbstractEventLoop, known: int = 0) -> None:
        if self._closed:
            super()._hand_over(loop, known)
            return
        for part in self._committer.commit(self._turns.pop(loop)):
            self._resolve(part)

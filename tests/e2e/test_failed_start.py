"""A start that fails on its way leaves nothing at work behind it."""

import asyncio
from pathlib import Path

import pytest

from receiver.config.load import load_settings
from receiver.config.variables import NEEDED
from receiver.errors import LedgerError
from receiver.ledger.ledger import Ledger
from receiver.service import running
from tests.support.receiver_process import ReceiverProcess


@pytest.mark.parametrize("missing", ["cursors", "gates"])
def test_where_a_part_cannot_begin_the_parts_before_it_end(
    tmp_path: Path, edgegap: str, missing: str
) -> None:
    answer = ReceiverProcess(tmp_path, edgegap)
    answer.environment["RECEIVER_CONFIG"] = str(answer.config)
    settings = load_settings(answer.environment, need=NEEDED)
    ledger = Ledger(settings.database_url)
    ledger.open_to_write()

    async def start() -> set[asyncio.Task[None]]:
        await ledger.write(lambda tx: tx.run(f"DROP TABLE {missing}"))
        with pytest.raises(LedgerError, match=missing):
            async with running(settings, ledger):
                pytest.fail("it began")
        return asyncio.all_tasks() - {asyncio.current_task()}

    try:
        assert asyncio.run(start()) == set()
    finally:
        ledger.close()

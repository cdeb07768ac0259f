"""Background tasks go on whatever goes wrong, log it once, and end when they are stopped."""

import asyncio
from collections.abc import Iterator
from itertools import count

from structlog.testing import capture_logs

from receiver.errors import LedgerError
from receiver.periodic import PeriodicTask

AT_ONCE = 0.001
TIMEOUT_SECONDS = 10.0


def test_an_error_is_logged_once_and_ends_nothing() -> None:
    async def scenario() -> None:
        over = asyncio.Event()
        errors: Iterator[Exception] = iter([LedgerError("it is away"), ZeroDivisionError()])

        async def once() -> None:
            for error in errors:
                raise error
            over.set()

        background = PeriodicTask(once, every=lambda: AT_ONCE, fault="purge_fault")
        background.start()
        await asyncio.wait_for(over.wait(), TIMEOUT_SECONDS)
        await background.stop()

    with capture_logs() as logged:
        asyncio.run(scenario())

    assert [one["event"] for one in logged] == ["ledger_unavailable", "purge_fault"]
    assert logged[0]["error"] == "it is away"


def test_a_task_woken_during_its_run_runs_again() -> None:
    async def scenario() -> None:
        turns: asyncio.Queue[int] = asyncio.Queue()
        numbers = count()

        async def once() -> None:
            number = next(numbers)
            if number == 0:
                background.wake()
            await turns.put(number)

        background = PeriodicTask(once, every=lambda: None, fault="fault")
        background.start()
        assert [await turns.get(), await turns.get()] == [0, 1]
        background.wake()
        assert await turns.get() == 2
        await background.stop()

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_SECONDS))


def test_one_turn_may_ask_for_another_wait_than_the_usual() -> None:
    async def scenario() -> int:
        turns = 0
        third = asyncio.Event()

        async def once() -> float:
            nonlocal turns
            turns += 1
            if turns == 3:
                third.set()
            return AT_ONCE

        background = PeriodicTask(once, every=lambda: 3600.0, fault="fault")
        background.start()
        await asyncio.wait_for(third.wait(), TIMEOUT_SECONDS)
        await background.stop()
        return turns

    assert asyncio.run(scenario()) == 3


def test_a_task_is_stopped_during_a_run() -> None:
    async def scenario() -> list[str]:
        seen = []
        begun = asyncio.Event()

        async def once() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("left")

        background = PeriodicTask(once, every=lambda: None, fault="fault")
        background.start()
        await begun.wait()
        await background.stop()
        return seen

    with capture_logs() as logged:
        assert asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_SECONDS)) == ["left"]
    assert logged == []

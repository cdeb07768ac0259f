"""wrk with 64 connections as Docker Hub: closed loop, each request with a tag of its own."""

import json
import re
import subprocess
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx

from tests.benchmarks.bodies import TAG_LETTERS, body_around_tag

CONNECTIONS = 64
_runs = count(1)

# The counter starts again in each run, the run's number keeps the tags apart. `print` at the end
# is what this program reads; wrk's own words are for people.
_SCRIPT = """
local number = 0
local before = %(before)s
local after = %(after)s
request = function()
  number = number + 1
  return before .. string.format("%(run)05d.%%0%(digits)dd", number) .. after
end
done = function(summary, latency, requests)
  local errors = summary.errors
  print(string.format("FIGURES %%d %%d %%d %%d %%d", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """The results of a run. Times in milliseconds; errors are whatever was not a 2xx."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class Wrk:
    """A run under way: its answer is waited for."""

    def __init__(self, url: str, folder: Path, *, size: int, seconds: float, connections: int):
        run = next(_runs)
        script = folder / f"load-{run}.lua"
        script.write_text(_script(url, size, run), "utf-8")
        where = httpx.URL(url)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s"]
        self._process = subprocess.Popen(
            [*command, "-s", str(script), f"http://{where.host}:{where.port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def result(self) -> Load:
        answer, _ = self._process.communicate(timeout=600)
        found = re.search(r"^FIGURES (\d+) (\d+) (\d+) (\d+) (\d+)$", answer, re.MULTILINE)
        assert found is not None, answer
        requests, took, p50, p99, errors = (int(part) for part in found.groups())
        return Load(requests, took / 1e6, p50 / 1000, p99 / 1000, errors)


def load(url: str, folder: Path, *, size: int, seconds: float) -> Load:
    """Load one server for a while."""
    return Wrk(url, folder, size=size, seconds=seconds, connections=CONNECTIONS).result()


def _script(url: str, size: int, run: int) -> str:
    where = httpx.URL(url)
    before, after = body_around_tag(size)
    length = len(before) + TAG_LETTERS + len(after)
    head = (
        f"POST {where.raw_path.decode()} HTTP/1.1\r\nHost: {where.netloc.decode()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    return _SCRIPT % {
        "before": _lua(head + before),
        "after": _lua(after),
        "run": run,
        "digits": TAG_LETTERS - 6,
    }


def _lua(text: str) -> str:
    """A literal of Lua, which knows JSON's escapes but for those of Unicode and the slash."""
    assert "\x00" not in text
    level = "=" * 6
    assert f"]{level}]" not in text
    return json.dumps(text) if "\\u" not in json.dumps(text) else f"[{level}[{text}]{level}]"

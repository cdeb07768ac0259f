"""Lists: a table with headers and colors on a terminal, plain lines for a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

COLORS = {
    "ready": "green",
    "done": "green",
    "waiting": "yellow",
    "working": "cyan",
    "queued": "cyan",
    "parked": "red",
    "refused": "red",
    "problem": "red",
}
BETWEEN = "  "


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def in_color() -> bool:
    """Return whether standard output shows colors; https://no-color.org turns them off."""
    dumb = os.environ.get("TERM") == "dumb"
    return on_terminal() and not dumb and not os.environ.get("NO_COLOR")


def colored(text: str, word: str) -> str:
    """Return the text in the color of a state, a verdict or another word."""
    color = COLORS.get(word) if in_color() else None
    return text if color is None else click.style(text, fg=color)


def print_rows(headers: Sequence[str], rows: Sequence[Sequence[str]], *, plain: str = "") -> None:
    """Print rows of cells; on a terminal in columns below headers, else after the word `plain`."""
    if not rows:
        return
    if not on_terminal():
        for row in rows:
            click.echo(BETWEEN.join(cell for cell in (plain, *row) if cell))
        return
    columns = zip(headers, *rows, strict=True)
    widths = [max(_width(cell) for cell in column) for column in columns]
    head = [click.style(one, bold=True) if in_color() else one for one in headers]
    for row in (head, *rows):
        cells = zip(row, widths, strict=True)
        line = BETWEEN.join(cell + " " * (width - _width(cell)) for cell, width in cells)
        click.echo(line.rstrip())


def _width(cell: str) -> int:
    return len(click.unstyle(cell))

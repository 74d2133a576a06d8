"""Where the command line prints."""

from __future__ import annotations

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 140


def wide_console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; where there is none (a pipe, a log), wide enough for our tables."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_WIDTH_WITHOUT_TERMINAL)

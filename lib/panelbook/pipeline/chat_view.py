"""What a chat looks like in a terminal: draws as they grow, then voices and answer apart.

Completions are hostile text. They reach the console as text that is already styled, so no bracket in them is markup,
and the console shows control characters as signs.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from panelbook.rollouts.chat import Chat, Glimpse, Look
from panelbook.rollouts.store import Record
from panelbook.study.voices import read_voices, take_apart
from panelbook.text import show_controls

COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#F0E442")
"""Of voices, in the order in which they first speak; every turn also says whose it is."""

SIDE_BY_SIDE = 100
"""Columns of a terminal from which the draws of two arms stand side by side."""

TAIL_LINES = 6
"""So much of the end of a draw is shown while it grows."""

MOST_TAILS = 4
REFRESH_S = 0.1
QUIET_S = 5.0


@contextmanager
def watch(console: Console, chat: Chat) -> Iterator[Callable[[Look], None]]:
    """Show draws while they grow, or that one waits for them; nothing of it stays on the screen.

    Yields a function for `Chat.ask` to call after every token.
    """
    started = last = time.monotonic()
    if not chat.streams or not console.is_terminal:
        with console.status("waiting for the service" if not chat.streams else "drawing"):

            def tell(look: Look) -> None:
                nonlocal last
                now = time.monotonic()
                if not console.is_terminal and now - last > QUIET_S:
                    last = now
                    console.print(f"  {_rate(look(), now - started)}", markup=False, highlight=False)

            yield tell
        return
    with Live(console=console, transient=True, auto_refresh=False, vertical_overflow="crop") as live:

        def show(look: Look) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last > REFRESH_S:
                last = now
                glimpses = look()
                tails = [_tail(glimpse, console.width) for glimpse in glimpses[:MOST_TAILS]]
                live.update(Group(*tails, Text(_rate(glimpses, now - started), style="dim")), refresh=True)

        yield show


def _rate(glimpses: Sequence[Glimpse], elapsed_s: float) -> str:
    n_tokens = sum(glimpse.n_tokens for glimpse in glimpses)
    n_ended = sum(glimpse.ended for glimpse in glimpses)
    return f"{n_ended} of {len(glimpses)} draws, {n_tokens:,} tokens, {n_tokens / elapsed_s:,.0f} tokens/s"


def _tail(glimpse: Glimpse, width: int) -> RenderableType:
    text = show_controls(glimpse.text[-TAIL_LINES * width :])
    lines = Text(text).wrap(Console(width=width), max(width - 4, 20))[-TAIL_LINES:]
    title = Text(f"{glimpse.arm} {glimpse.sample_id}{', done' if glimpse.ended else ''}")
    return Panel(Text("\n").join(lines), title=title, title_align="left", border_style="dim")


def show_draws(console: Console, records: Sequence[Record], weights: str) -> None:
    """Print finished draws; those of different arms side by side where there is room."""
    arms = list(dict.fromkeys(str(record["arm"]) for record in records))
    cards = {arm: [_card(record, weights) for record in records if record["arm"] == arm] for arm in arms}
    if len(arms) < 2 or console.width < SIDE_BY_SIDE:
        for card in (card for group in cards.values() for card in group):
            console.print(card)
        return
    for row in zip(*cards.values(), strict=True):
        grid = Table.grid(expand=True)
        for _ in row:
            grid.add_column(ratio=1)
        grid.add_row(*row)
        console.print(grid)


def _card(record: Record, weights: str) -> Panel:
    """One draw: voices or steps, then the answer, then the verdict and what it cost."""
    completion, arm = str(record["completion"]), str(record["arm"])
    segments = take_apart(completion, arm)
    colour = {voice: COLOURS[i % len(COLOURS)] for i, voice in enumerate(read_voices(segments))}
    body: list[Text] = []
    for segment in segments:
        said = show_controls(segment.text)
        if segment.kind == "speech":
            name = Text(f"{show_controls(segment.speaker)}: ", style=f"bold {colour[segment.speaker]}")
            body.append(name.append(said, style=f"not bold {colour[segment.speaker]}"))
        elif segment.kind == "step":
            body.append(Text(said))
        elif segment.kind == "outside":
            body.append(Text(f"(outside the tags) {said}", style="dim"))
    body.append(_verdict(record))
    body.append(Text(_cost(record), style="dim"))
    title = Text(f"{arm} {record['sample_id']}, {weights}", style="bold")
    return Panel(Group(*body), title=title, title_align="left")


def _verdict(record: Record) -> Text:
    """Say what the answer is, and whether it is right."""
    predicted = record["predicted"]
    line = Text(
        "no answer" if predicted is None else f"answer: {show_controls(str(predicted))}", style="bold"
    )
    if record["status"] is not None:
        style = "green" if record["status"] == "correct" else "red"
        line.append(f"  {str(record['status']).replace('_', ' ')}", style=style)
        if record["status"] != "correct":
            line.append(f", gold {show_controls(str(record['gold']))}", style=style)
    return line


def _cost(record: Record) -> str:
    ended = "stopped" if record["stop_reason"] == "stop" else "cut off at the limit"
    tags = "tags kept" if record["tag_valid"] else "tags not kept"
    return f"{record['completion_tokens']:,} tokens, {ended}, {tags}, seed {record['seed']}"

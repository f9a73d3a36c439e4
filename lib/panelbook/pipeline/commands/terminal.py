"""What every command shares: where it prints, and options that several take.

Whatever is printed may quote a file or a model. Control characters in it are shown as signs, never sent to the
terminal; square brackets in it are the caller's to escape (`rich.markup.escape`, or ``markup=False``).
"""

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from panelbook.text import show_controls


class SafeConsole(Console):
    """A console in which no text can steer the terminal: only rich itself moves its cursor and sets its colours."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into text: signs in place of control characters, before anyone measures how wide it is."""
        return super().render_str(show_controls(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render to pieces; what did not come as a string, but as text already styled, is cleaned here."""
        for segment in super().render(renderable, options):
            safe = segment.text if segment.control else show_controls(segment.text)
            yield segment if safe == segment.text else Segment(safe, segment.style)


console = SafeConsole()
errors = SafeConsole(stderr=True)

ProfileOption = Annotated[str, typer.Option("--profile", help="A file of params/, without .yml.")]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Notebooks executed side by side.")]

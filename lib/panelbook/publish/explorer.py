"""The rollout explorer: every draw of a table, to be searched, filtered and read side by side in a browser.

`write_explorer` makes a folder that opens from the file system or from any web server; `explore` shows the same
inside JupyterLab. Both take any table of rollouts: what is missing is filled with neutral values.

The front-end is one static page with its script and style (`web/`, bundled). The data lie beside it as classic
scripts that call it with gzipped JSON in base64, since a page opened from a file may load nothing else: an index
with one short row per draw, and shards with the texts, which are loaded as they are read. The same table gives the
same bytes.

Completions are hostile text. Nothing here turns one into markup: they leave this module inside base64 only.

Not handled: tables that change while they are shown, and more draws than a browser can list (some 100,000).
"""

import base64
import gzip
import html
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from panelbook.publish.explorer_data import ExplorerError as ExplorerError
from panelbook.publish.explorer_data import (
    Table,
    list_near_and_far,
    make_index,
    prepare_draws,
)
from panelbook.publish.explorer_data import rollout_id as rollout_id
from panelbook.study.arms import ARMS
from panelbook.study.voices import take_apart

WEB = Path(__file__).parent / "web"
PAGE, STYLE, SCRIPT = "explorer.html", "explorer.css", "explorer.js"
INDEX = "index.html"
"""Page of a written explorer; `STYLE`, `SCRIPT` and the folder `data` lie beside it."""

SHARD_DRAWS = 500
SHARD_CHARACTERS = 2_000_000
"""A shard holds at most so many draws, and no further draw once it has so many characters."""

INLINE_DRAWS = 5_000
INLINE_CHARACTERS = 10_000_000
"""What `explore` shows within a notebook at most: a notebook keeps its outputs, and should stay small."""


@dataclass(frozen=True)
class Frame:
    """An explorer within a notebook: the last value of a cell shows it.

    Parameters
    ----------
    page
        The whole page, script and data inlined.
    height
        Pixels.
    """

    page: str
    height: int

    def _repr_html_(self) -> str:
        # A sandbox without the notebook's own origin: what a text might smuggle in could reach nothing.
        return (
            f'<iframe title="Rollout explorer" style="width: 100%; height: {self.height}px; border: 0" '
            f'sandbox="allow-scripts allow-popups allow-downloads" srcdoc="{html.escape(self.page)}"></iframe>'
        )


def write_explorer(
    folder: Path,
    rollouts: pd.DataFrame,
    problems: pd.DataFrame | None = None,
    places: pd.DataFrame | None = None,
    neighbours: pd.DataFrame | None = None,
    *,
    title: str,
    back: str | None = None,
    note: str = "",
) -> Path:
    """Write an explorer of a table of draws and return its page.

    Parameters
    ----------
    folder
        Made if need be; an explorer that is there is replaced, anything else refused.
    rollouts
        One row per draw: arm, problem_id, completion, and status or correct; the further columns of
        `panelbook.rollouts.schema.ROLLOUTS_COLUMNS` where known, see `NEUTRAL`. Studies and runs may be mixed.
    problems
        problem_id, question and gold, and benchmark where ids repeat; None shows ids alone.
    places
        The stage `map`'s places: the key of rollouts, x and y; draws that are not there are not on the map.
    neighbours
        The stage `map`'s neighbours: the key of rollouts, relation (near, far), rank, other_run_id, other_arm,
        other_checkpoint, other_sample_id and distance.
    title
        Heading of the page.
    back
        Link back, relative to the page; None for none.
    note
        Shown with the draws: where they are from.

    Raises
    ------
    ExplorerError
        If a column is missing, a value is not what it should be, a draw occurs twice, there is none, or the folder
        holds anything else.
    """
    table = prepare_draws(rollouts)
    known = {INDEX, STYLE, SCRIPT, "data"}
    if folder.exists() and (
        others := sorted(path.name for path in folder.iterdir() if path.name not in known)
    ):
        raise ExplorerError(
            f"{folder} holds {others[0]!r}, which is no part of an explorer. Give an empty folder."
        )
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for old in (folder / "data").iterdir():
        old.unlink()
    for source, target in ((PAGE, INDEX), (STYLE, STYLE), (SCRIPT, SCRIPT)):
        shutil.copyfile(_asset(source), folder / target)
    for name, call in _calls(table, problems, places, neighbours, title=title, back=back, note=note):
        (folder / name).write_text(call, encoding="ascii")
    return folder / INDEX


def explore(
    rollouts: pd.DataFrame,
    problems: pd.DataFrame | None = None,
    places: pd.DataFrame | None = None,
    neighbours: pd.DataFrame | None = None,
    *,
    title: str = "Rollouts",
    note: str = "",
    height: int = 760,
) -> Frame:
    """Show an explorer in JupyterLab: let this be the last line of a cell.

    Parameters
    ----------
    rollouts, problems, places, neighbours, title, note
        As `write_explorer`. Any DataFrame with arm, problem_id, completion, and status or correct will do.
    height
        Pixels.

    Raises
    ------
    ExplorerError
        As `write_explorer`, and if there is more than a notebook should hold.

    Examples
    --------
    >>> draws = pd.DataFrame({"arm": ["think"], "problem_id": ["a"], "completion": ["4"], "correct": [True]})
    >>> explore(draws)  # doctest: +SKIP
    """
    table = prepare_draws(rollouts)
    characters = sum(map(len, table["completion"]))
    if len(table["arm"]) > INLINE_DRAWS or characters > INLINE_CHARACTERS:
        raise ExplorerError(
            f"there are {len(table['arm']):,} draws of {characters:,} characters; a notebook shows at most "
            f"{INLINE_DRAWS:,} and {INLINE_CHARACTERS:,}. Show some, as explore(rollouts.head(1000)), or save them "
            "with rollouts.to_parquet('draws.parquet') and run `panelbook explore draws.parquet`."
        )
    calls = dict(_calls(table, problems, places, neighbours, title=title, back=None, note=note))
    page = _asset(PAGE).read_text(encoding="utf-8")
    style = _asset(STYLE).read_text(encoding="utf-8").replace("</", "<\\/")
    script = (
        _asset(SCRIPT).read_text(encoding="utf-8").replace("</script", "<\\/script").replace("<!--", "<\\!--")
    )
    data = "\n".join(calls.values())
    for pattern, text in (
        (rf'<link[^>]*href="{STYLE}"[^>]*>', f"<style>{style}</style>"),
        (r'<script[^>]*src="data/index\.js"[^>]*></script>', f"<script>{data}</script>"),
        (rf'<script[^>]*src="{SCRIPT}"[^>]*></script>', f"<script>{script}</script>"),
    ):
        before, *rest = re.split(pattern, page)
        assert len(rest) == 1, pattern  # a test holds the page to it
        page = before + text + rest[0]
    return Frame(page, height)


def _asset(name: str) -> Path:
    path = WEB / name
    if not path.is_file():
        raise ExplorerError(f"{path} is missing: the package is not whole. Run `npm run build` in web/.")
    return path


# --- the calls ------------------------------------------------------------------------------------------


def _calls(
    table: Table,
    problems: pd.DataFrame | None,
    places: pd.DataFrame | None,
    neighbours: pd.DataFrame | None,
    *,
    title: str,
    back: str | None,
    note: str,
) -> Iterator[tuple[str, str]]:
    """Yield the data files, name and content: the shards, then the index."""
    index, order = make_index(table, problems, places)
    texts = [table["completion"][row] for row in order]
    arms = [table["arm"][row] for row in order]
    near = list_near_and_far(neighbours, {name: i for i, name in enumerate(index["columns"]["id"])})
    voiced: dict[str, list[bool]] = {}
    for number, (first, last) in enumerate(_shards(index["columns"]["chars"])):
        rows = []
        for row in range(first, last):
            segments = take_apart(texts[row], arms[row])
            voiced.setdefault(arms[row], []).append(any(piece.kind == "speech" for piece in segments))
            answer = (
                ARMS[arms[row]].parse(texts[row]).answer  # what was graded
                if arms[row] in ARMS
                else next((piece.text for piece in segments if piece.kind == "answer"), None)
            )
            rows.append(
                {
                    "text": texts[row],
                    "segments": [[piece.kind, piece.speaker, piece.text] for piece in segments],
                    "answer": answer,
                    "near": near["near"].get(row, []),
                    "far": near["far"].get(row, []),
                }
            )
        file = f"data/shard-{number:03d}.js"
        index["shards"].append({"file": file, "first": first, "n": last - first})
        yield file, f'panelbookExplorer.shard({number}, "{_pack({"rows": rows})}");\n'
    for arm in index["arms"]:
        said = voiced[arm["name"]]
        arm["style"] = "voices" if sum(said) > len(said) / 2 else "steps"
    whole = {"format": 1, "title": title, "back": back, "note": note} | index
    yield "data/index.js", f'panelbookExplorer.index("{_pack(whole)}");\n'


def _pack(data: Any) -> str:
    """Return data as gzipped JSON in base64, the same bytes whenever and wherever."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("ascii"), compresslevel=6, mtime=0)).decode("ascii")


def _shards(characters: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first row of each shard and the one after its last."""
    first = held = 0
    for row, n in enumerate(characters):
        if row > first and (row - first == SHARD_DRAWS or held + n > SHARD_CHARACTERS):
            yield first, row
            first, held = row, 0
        held += n
    yield first, len(characters)

"""Recorded runs: what a model said and learnt on one machine, kept so that nobody has to run it again to read it.

A language model of any use takes hours on a processor, and a book should open in minutes. So the tables that a
profile's stages wrote (problems, draws, held-out counts, metrics of training) can be kept as a *record*: a folder of
parquet files and a `manifest.json` with the SHA-256 of each, the parameters, commit, versions and times of every
stage. A record holds what was drawn and no weights. Chapters read its tables as they read those of a run of their own.

Not handled: whether a record could be drawn again. The manifest says how it was made, `panelbook build` makes it anew.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from panelbook.errors import BookError

RECORDS = Path(__file__).parent / "records"
"""Records that come with the book, one folder each."""

MANIFEST = "manifest.json"

TABLES = (
    "problems.parquet",
    "rollouts.parquet",
    "heldout.parquet",
    "metrics.parquet",
    "training_rollouts.parquet",
)
"""What a record holds; tables of one name that several stages wrote are joined."""

EXTRA = ("loss.csv",)
"""What it holds where there was a warm-up."""


class RecordError(BookError):
    """A record is incomplete, altered, or cannot be made."""


@dataclass(frozen=True)
class Recorded:
    """A record, every file of which has its recorded hash.

    Parameters
    ----------
    folder
        Where it lies.
    manifest
        `study`, `model` (engine, name, weights), `stages` (of each run its stage, group, params, commit, versions,
        machine, finished, wall_s) and `files` (name -> sha256, rows, bytes).
    """

    folder: Path
    manifest: Mapping[str, Any]

    def read(self, name: str) -> pd.DataFrame:
        """Return one of its tables.

        Raises
        ------
        RecordError
            If the record has no table of that name.
        """
        if name not in self.manifest["files"]:
            raise RecordError(f"{self.folder} holds no {name}, only {', '.join(self.manifest['files'])}.")
        path = self.folder / name
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)

    def stages(self, name: str) -> list[Mapping[str, Any]]:
        """Return what is known of the runs of one stage."""
        return [stage for stage in self.manifest["stages"] if stage["stage"] == name]


def read_record(folder: Path) -> Recorded:
    """Read a record and check every file of it.

    Raises
    ------
    RecordError
        If the folder holds no record, or a file is missing or altered.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        expected = {name: file["sha256"] for name, file in manifest["files"].items()}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RecordError(
            f"{folder} is no record: {type(error).__name__}: {error}. A record is a folder with a {MANIFEST}, as "
            "`panelbook export record` writes it."
        ) from None
    for name, digest in expected.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise RecordError(f"{folder}: {name} is missing, though the record lists it. Restore the folder.")
        if (found := _hash(folder / name)) != digest:
            raise RecordError(
                f"{folder}: {name} has the SHA-256 {found[:12]}…, recorded is {digest[:12]}…. Restore the file, or "
                "make the record again with `panelbook export record`."
            )
    return Recorded(folder, manifest)


def write_record(
    folder: Path,
    study: str,
    runs: Sequence[Path],
    stages: Sequence[Mapping[str, Any]],
    model: Mapping[str, Any],
) -> Recorded:
    """Join the tables that some runs wrote, and write them with a manifest, which comes last.

    Parameters
    ----------
    folder
        Where to; made if it is not there. Tables in it are replaced.
    study
        Name that the rows take, in place of that of their profile.
    runs
        Folders of the runs.
    stages, model
        What the manifest says of them.

    Raises
    ------
    RecordError
        If the runs did not write one of `TABLES`.
    """
    tables = {name: _join([run / name for run in runs], study) for name in (*TABLES, *EXTRA)}
    for name in TABLES:
        if tables[name].empty:
            raise RecordError(f"a record needs {name}, and no run of the profile wrote it.")
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, table in tables.items():
        if table.empty:
            continue
        path = folder / name
        if path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False, compression="zstd", compression_level=19)
        files[name] = {"sha256": _hash(path), "rows": len(table), "bytes": path.stat().st_size}
    manifest = {
        "study": study,
        "model": dict(model),
        "files": files,
        "stages": [dict(stage) for stage in stages],
    }
    (folder / MANIFEST).write_text(
        json.dumps(manifest, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
    )
    return read_record(folder)


def _join(paths: Sequence[Path], study: str) -> pd.DataFrame:
    """Read those of the files that are there as one table, under one name of study."""
    found = [pd.read_csv(p) if p.suffix == ".csv" else pd.read_parquet(p) for p in paths if p.is_file()]
    if not found:
        return pd.DataFrame()
    table = pd.concat(found, ignore_index=True)
    for column in ("study", "profile"):
        if column in table:
            table[column] = study
    return table


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

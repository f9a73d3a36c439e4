"""Draws under way and draws at rest: append-only shards of JSON lines, then one parquet table.

A run may be killed at any moment, the disk may fill up, and what was finished must neither be lost nor be
made twice. So every finished draw is one line, written with one call and in the file when the call
returns. Three rules make such a file trustworthy:

- A line counts when it is whole: it ends in a newline and is a JSON object. A *last* line that is not is
  what a kill leaves behind; it is dropped and reported, and its draw is simply made again.
- A broken line *elsewhere*, or the same draw twice, cannot come from a kill. It is an error that names file
  and line, because guessing which half of a file to believe would be worse than stopping.
- A shard has one writer at a time, held to it by a lock that ends with the writer.

What is *not* handled: loss of power. Lines are handed to the operating system, not forced to the disk.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from panelbook.errors import BookError
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS, ROLLOUTS_KEY, check_rollouts
from panelbook.text import mend

LOCK_WAIT_S = 10.0
"""How long to wait for another writer: a notebook kernel outlives its killed parent by a second or two."""

Record = dict[str, Any]


class StoreError(BookError):
    """A shard cannot be read or written; the message names file, line and what to do."""


@dataclass(frozen=True)
class Torn:
    """A last line that was cut off: its file, its number from 1, its length."""

    path: Path
    line: int
    n_bytes: int

    def __str__(self) -> str:
        return f"{self.path}: line {self.line} was cut off after {self.n_bytes} bytes and is dropped."


class Shard:
    """The one writer of one file of JSON lines. Opening it drops a torn last line.

    Parameters
    ----------
    path
        The file; it and its folders are made if absent.
    lock_wait_s
        Seconds to wait for another writer to finish.

    Raises
    ------
    StoreError
        If another process keeps writing the file, or it cannot be opened or is broken before its last line.
    """

    def __init__(self, path: Path, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: nothing of a failed write may be left behind in memory and written later.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}.") from None
        try:
            self._lock(lock_wait_s)
            records, self.torn = read_lines(path)
            self.n_lines = len(records)
            if self.torn:
                self._file.truncate(self.size - self.torn.n_bytes)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes in the file: what `rewind` takes."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Let the file go, and the lock with it."""
        self._file.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line. It is in the file when this returns, and not at all if this raises.

        Raises
        ------
        StoreError
            If the disk is full or the file cannot be written. The shard is closed then.
        """
        rest = memoryview((json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode())
        end = self.size
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException as error:
            with suppress(OSError):  # should even this fail, the half line is dropped when the file is opened
                self._file.truncate(end)
            self.close()
            if not isinstance(error, OSError):
                raise
            raise StoreError(
                f"{self.path}: line {self.n_lines + 1} could not be written: {error.strerror}. "
                f"The {self.n_lines} lines before it are kept; make room and run the same command again."
            ) from None
        self.n_lines += 1

    def rewind(self, size: int) -> None:
        """Forget everything after the first `size` bytes, as `size` once returned them.

        Raises
        ------
        StoreError
            If the file is shorter than that.
        """
        if self.size < size:
            raise StoreError(
                f"{self.path} has {self.size} bytes, but a checkpoint was taken at {size}. "
                "It was replaced or cut by hand; remove its folder and start again."
            )
        self._file.truncate(size)
        self.n_lines = len(read_lines(self.path)[0])

    def _lock(self, wait_s: float) -> None:
        """Wait for the lock. The operating system frees it when its holder ends, however that ends."""
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{self.path} is being written by another process. Wait for that or end it."
                    ) from None
                time.sleep(0.1)


def read_lines(path: Path) -> tuple[list[Record], Torn | None]:
    """Read a file of JSON lines.

    Returns
    -------
    The whole lines, lone surrogates in their texts replaced (`panelbook.text.mend`), and the last one if it was
    cut off. The file stays as it is.

    Raises
    ------
    StoreError
        If the file cannot be read, or a line before the last is not a JSON object.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from None
    records: list[Record] = []
    for number, line in enumerate(lines, start=1):
        record = _parse(line)
        if record is None and number == len(lines):
            return records, Torn(path, number, len(line))
        if record is None:
            raise StoreError(
                f"{path}: line {number} of {len(lines)} is not a JSON object: {line[:60]!r}. A kill breaks "
                "only the last line; this was something else. Remove the line to have its draw made again; in the "
                "folder of a training run, which builds on every line, remove the whole folder."
            )
        records.append(record)
    return records, None


def read_draws(folder: Path) -> tuple[list[Record], list[Torn]]:
    """Read the finished draws of every shard (``*.jsonl``) in a folder, shard by shard in order of name.

    Raises
    ------
    StoreError
        As `read_lines` does; if a record lacks a column of rollouts; or if a draw occurs twice.
    """
    draws: list[Record] = []
    torn: list[Torn] = []
    seen: dict[tuple[Any, ...], str] = {}
    for path in sorted(folder.glob("*.jsonl")):
        records, cut = read_lines(path)
        torn.extend([cut] if cut else [])
        for number, record in enumerate(records, start=1):
            _check_draw(record, f"{path}: line {number}", seen)
        draws.extend(records)
    return draws, torn


def compact(draws: Iterable[Record], out: Path) -> pd.DataFrame:
    """Write draws as one parquet table, checked, in the fixed order of `check_rollouts`.

    The table appears under its name whole or not at all, and the same draws in any order give the same
    bytes.

    Raises
    ------
    TableError
        As `check_rollouts` does.
    StoreError
        If there is no draw, or the file cannot be written.
    """
    table = pd.DataFrame(draws)
    if table.empty:
        raise StoreError(f"there is no finished draw to write to {out}.")
    table = check_rollouts(table, str(out))
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            table.to_parquet(file, index=False)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise StoreError(f"{out} could not be written: {error}. The shards are kept.") from None
    return table


def draw_key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what identifies a draw: its values of `ROLLOUTS_KEY`."""
    return tuple(record[column] for column in ROLLOUTS_KEY)


def _parse(line: bytes) -> Record | None:
    """Return the object on a whole line; None if it is cut off or is anything else."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # brackets a thousand deep are no draw either
        return None
    return mend(record) if isinstance(record, dict) else None


def _check_draw(record: Record, where: str, seen: dict[tuple[Any, ...], str]) -> None:
    """Check one record and note it in `seen`."""
    absent = ROLLOUTS_COLUMNS.keys() - record.keys()
    if absent:
        raise StoreError(f"{where} is a draw without {', '.join(sorted(absent))}. Remove that line.")
    key = draw_key(record)
    if key in seen:
        draw = ", ".join(f"{column}={value!r}" for column, value in zip(ROLLOUTS_KEY, key, strict=True))
        raise StoreError(f"{where} repeats the draw of {seen[key]}: {draw}. Remove one of them.")
    seen[key] = where

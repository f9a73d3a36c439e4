"""Print the benchmark table: `make bench`, or `python -m benchmarks --build` to time the book as well."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import draws, imports, live
from benchmarks.model import measure_model
from benchmarks.timing import best_of
from panelbook.publish.headline import write_between_marks

NEWCOMER = "run", "pass_at_k.aime", "-p", "k_max=8"
MARKS = "<!-- times: written by `make bench` -->", "<!-- end of times -->"


def time_build() -> tuple[float, float, float]:
    """Return wall times in seconds in a fresh copy of the checkout: a first build, a second one, one chapter again."""
    root = Path(__file__).parents[1]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True)
    panelbook = [sys.executable, "-c", "from panelbook.pipeline.cli import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        for name in filter(None, listed.stdout.split("\0")):
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, target)
        first, second, again = (
            best_of(
                lambda words=words: subprocess.run(
                    [*panelbook, *words], cwd=folder, check=True, capture_output=True
                ),
                1,
            )[0]
            for words in (("build",), ("build",), NEWCOMER)
        )
    return first, second, again


def describe_times(first_s: float, second_s: float, again_s: float) -> str:
    """Return the sentence of README.md on how long its commands take."""
    return (
        f"On {os.cpu_count()} cores ({platform.system()} {platform.machine()}) the first `make book` took "
        f"{first_s / 60:.0f} minutes after the installation, one with nothing to do {second_s:.0f} s, and the third "
        f"command {again_s:.0f} s to the page.\n"
    )


def print_rates(console: Console, rates: list[live.Rate]) -> None:
    """Print what was done in a second, beside its reference."""
    table = Table("what", "a second", "reference", "a second", "ratio")
    for rate in rates:
        ratio = f"{rate.per_s / rate.reference_per_s:.1f}x" if rate.reference else ""
        theirs = f"{rate.reference_per_s:,.0f}" if rate.reference else ""
        table.add_row(rate.name, f"{rate.per_s:,.0f} {rate.unit}", rate.reference, theirs, ratio)
    console.print(table)


def main() -> None:
    """Time everything and print it; exit with 1 if a measure disagrees with its reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--build", action="store_true", help="also time a build from nothing and one with nothing to do"
    )
    parser.add_argument(
        "--write", type=Path, help="with --build: write the times between the marks of this file"
    )
    parser.add_argument("--model", help="time this model of the profile hf instead: a hub id or a folder")
    options = parser.parse_args()
    console = Console()
    if options.model:
        print_rates(console, measure_model(options.model))
        return
    table = Table("what", "library (s)", "reference (s)", "ratio", "agree to")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draws.parquet"
        draws.write_draws(path)
        load_s, rollouts = best_of(lambda: pd.read_parquet(path), 1)
        console.print(f"{len(rollouts):,} draws loaded from parquet in {load_s:.2f} s")
        log = Path(folder) / "log.jsonl"
        imports.write_log(log)
        for name, ours, plain, given in (
            ("pass@k, k = 1 to 32", draws.measure_pass_at_k, draws.reference_pass_at_k, rollouts),
            (
                "the same with intervals",
                draws.measure_pass_at_k_with_intervals,
                draws.reference_pass_at_k,
                rollouts,
            ),
            (
                "token statistics by bucket, with intervals",
                draws.measure_tokens,
                draws.reference_tokens,
                rollouts,
            ),
            ("import of 100,000 draws, checked", imports.measure_import, imports.reference_import, log),
        ):
            ours_s, found = best_of(lambda ours=ours, given=given: ours(given))
            plain_s, expected = best_of(lambda plain=plain, given=given: plain(given), 1)
            error = max(abs(found[key] - expected[key]) / abs(expected[key]) for key in expected)
            table.add_row(name, f"{ours_s:.2f}", f"{plain_s:.2f}", f"{plain_s / ours_s:.1f}x", f"{error:.0e}")
            if error > 1e-9:
                raise SystemExit(f"{name}: library and reference disagree by {error:.1e}.")
    print_rates(console, live.measure_all())
    if options.build:
        full_s, noop_s, again_s = times = time_build()
        table.add_row("build from nothing", f"{full_s:.1f}", "", "", "")
        table.add_row("build with nothing to do", f"{noop_s:.1f}", "", "", "")
        table.add_row(f"panelbook {' '.join(NEWCOMER)}", f"{again_s:.1f}", "", "", "")
        if options.write:
            text = options.write.read_text(encoding="utf-8")
            options.write.write_text(
                write_between_marks(text, describe_times(*times), options.write.name, MARKS), encoding="utf-8"
            )
    console.print(table)


if __name__ == "__main__":
    main()

"""Fifty thousand rollouts in the explorer, timed in Chromium as a reader would: `python -m benchmarks.explorer`.

Draws of two arms at two checkpoints on 625 problems, some 1,500 characters each. Times are from the click or key to
the frame that shows the result; the first view is from opening the page to the texts of both panes. The search reads
every text. Memory is all that the page's process held at any time until then (Linux only).
"""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

from panelbook.publish.explorer import write_explorer

N_PROBLEMS, N_SAMPLES, WORDS = 625, 20, 250
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--allow-file-access-from-files"]
KEY = ["run_id", "arm", "checkpoint", "problem_id", "sample_id"]

# Set a value as a reader would, and wait until the count of listed rollouts has changed and been painted.
CHANGE = """([selector, act]) => new Promise(resolve => {
  const count = document.querySelector(".order .count b");
  const start = performance.now();
  const observer = new MutationObserver(() => {
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start)));
  });
  observer.observe(count, { childList: true, characterData: true, subtree: true });
  document.querySelector(selector)[act]();
})"""


def make_draws() -> pd.DataFrame:
    """Return 50,000 draws."""
    rng = np.random.default_rng(0)
    words = np.array(
        ["we", "consider", "the", "parity", "of", "each", "term", "so", "n", "is", "even", "below"]
    )
    rows = []
    for problem in range(N_PROBLEMS):
        for arm in ("panel", "think"):
            for step, checkpoint in ((0, "base"), (50, "step 50")):
                for sample in range(N_SAMPLES):
                    text = " ".join(rng.choice(words, WORDS)) + (" zebra" if rng.random() < 0.02 else "")
                    status = rng.choice(["correct", "wrong", "no_answer"], p=[0.4, 0.55, 0.05])
                    rows.append((f"problem-{problem:04d}", arm, step, checkpoint, sample, text, status))
    columns = ["problem_id", "arm", "step", "checkpoint", "sample_id", "completion", "status"]
    return pd.DataFrame(rows, columns=columns).assign(run_id="run", completion_tokens=WORDS)


def measure(page: Page, url: str) -> list[tuple[str, float, str]]:
    """Return what was measured: name, value, unit."""
    start = time.perf_counter()
    page.goto(url)
    page.wait_for_selector('.pane[data-side="left"] .text')
    page.wait_for_selector('.pane[data-side="right"] .text')
    found = [("first view", 1000 * (time.perf_counter() - start), "ms")]
    page.locator(".sieve summary").click()
    filters = [page.evaluate(CHANGE, [f".value:nth-child({i % 2 + 1}) input", "click"]) for i in range(6)]
    found.append(("filter, slowest of 6", max(filters), "ms"))
    page.get_by_role("button", name="Reset filters").click()
    page.keyboard.press("Escape")
    start = time.perf_counter()
    page.locator(".list").press("End")
    page.wait_for_selector(f'.item[aria-posinset="{4 * N_PROBLEMS * N_SAMPLES}"][aria-selected=true]')
    found.append(("from the first rollout to the last", 1000 * (time.perf_counter() - start), "ms"))
    page.evaluate(
        "window.longest = 0; new PerformanceObserver(list => list.getEntries().forEach("
        "entry => window.longest = Math.max(window.longest, entry.duration))).observe({ type: 'longtask' })"
    )
    start = time.perf_counter()
    page.locator("#search").fill("zebra")
    page.wait_for_selector(".progress")
    page.wait_for_selector(".progress", state="detached", timeout=120_000)
    found.append(("search of every text", time.perf_counter() - start, "s"))
    found.append(("longest freeze while searching", page.evaluate("window.longest"), "ms"))
    browser = page.context.browser
    assert browser is not None
    listed = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    peaks = [read_peak(entry["id"]) for entry in listed if entry["type"] == "renderer"]
    found.append(("memory of the page's process, at its highest", max(peaks), "MiB"))
    return found


def read_peak(process: int) -> float:
    """Return the highest resident size of a process in MiB, as Linux keeps it."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Write the explorer, open it in Chromium, print what was measured."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    draws = make_draws()
    rng = np.random.default_rng(1)
    places = draws[KEY].assign(x=rng.normal(size=len(draws)), y=rng.normal(size=len(draws)))
    table = Table("what", "measured", title=f"{len(draws):,} rollouts in the explorer")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        start = time.perf_counter()
        page_path = write_explorer(Path(folder) / "explore", draws, places=places, title="Benchmark")
        table.add_row("written by write_explorer", f"{time.perf_counter() - start:.1f} s")
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for name, value, unit in measure(page, page_path.as_uri() + "#map=arm"):
            table.add_row(name, f"{value:,.1f} {unit}" if unit == "s" else f"{value:,.0f} {unit}")
        browser.close()
    Console().print(table)


if __name__ == "__main__":
    main()

"""How everything here is timed."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

REPEATS = 5


def best_of(function: Callable[[], T], repeats: int = REPEATS) -> tuple[float, T]:
    """Return the shortest of several wall times in seconds, and what the function returned last."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = function()
        times.append(time.perf_counter() - start)
    return min(times), value

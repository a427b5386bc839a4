# SPDX-License-Identifier: Apache-2.0
"""Bars that show how far something is."""

import re

WIDTH = 24
STEPS = re.compile(r"(?:^|\n)(?:\[(\d+)/(\d+)\]|testbed: step (\d+) of (\d+))")


def bar(done: float, total: float, unit: str = "") -> str:
    """"[######..................] 70/280": nothing done is an empty bar, and so is nothing to do."""
    filled = 0 if total <= 0 else min(WIDTH, int(WIDTH * done / total))
    return f"[{'#' * filled}{'.' * (WIDTH - filled)}] {done:.0f}/{total:.0f}{unit}"


def steps_in(log: str, ended: bool) -> tuple[int, int]:
    """How many steps of how many the log tells last; a job that has ended has done all of them."""
    found = STEPS.findall(log)
    done, total = next(((int(a or c), int(b or d)) for a, b, c, d in reversed(found)), (0, 0))
    return (max(total, 1), max(total, 1)) if ended else (done, total)

# SPDX-License-Identifier: Apache-2.0
"""How long hypervisors took to answer in a run, by what balloond exported at its end."""

import re
from pathlib import Path

SAMPLE = re.compile(r'balloon_backend_request_duration_seconds_(bucket|sum|count)'
                    r'\{backend="([^"]+)",request="([^"]+)"(?:,le="([^"]+)")?\} (\S+)')
REQUESTS = {"stats": "statistics", "target": "a new size"}
BOUNDS = {"0.005": "5 ms", "0.025": "25 ms", "0.1": "100 ms", "0.5": "500 ms"}
COLUMNS = ["asked for", "of", "answers", "mean", *(f"within {bound}" for bound in BOUNDS.values())]


def answers_of(scrapes: Path) -> list[list[str]]:
    """A row for each kind of request and each hypervisor that was asked."""
    last: dict[tuple[str, str], dict[str, float]] = {}
    if scrapes.exists():
        with scrapes.open(encoding="utf-8") as lines:
            for seen in filter(None, map(SAMPLE.match, lines)):
                what, backend, request, bound, value = seen.groups()
                last.setdefault((request, backend), {})[bound or what] = float(value)
    return [[words, backend, f"{told['count']:.0f}", f"{1000 * told['sum'] / told['count']:.0f} ms",
             *(f"{100 * told[bound] / told['count']:.0f} %" for bound in BOUNDS)]
            for request, words in REQUESTS.items() for (asked, backend), told in last.items()
            if asked == request and told["count"]]


def print_answers(rows: list[list[str]]):
    print("how long hypervisors took to answer:")
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows)]
    for row in [COLUMNS, *rows]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())

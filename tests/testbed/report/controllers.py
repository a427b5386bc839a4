# SPDX-License-Identifier: Apache-2.0
"""The table of controllers on one scenario: what guests waited for and lacked, what swapped, what was moved, and what it cost."""

import statistics
from dataclasses import dataclass
from typing import Callable

from .timeline import Phase, Timeline

CONTROLLERS = ("balloond", "none", "static", "mom")
TITLES = {"balloond": "balloond", "none": "no controller", "static": "static partition", "mom": "MOM"}
PAGE = 4096
GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Measure:
    key: str
    title: str
    digits: int = 0


MEASURES = (
    Measure("satisfied", "loads satisfied"),
    Measure("loads", "of"),
    Measure("median_seconds", "seconds to satisfaction, median"),
    Measure("longest_seconds", "seconds to satisfaction, longest"),
    Measure("deficit", "asked for and not resident, GiB x s", 1),
    Measure("guest_swap", "swapped in guests, in and out, MiB"),
    Measure("host_swap_in", "host swap in, MiB"),
    Measure("host_swap_out", "host swap out, MiB"),
    Measure("kills", "killed for want of memory"),
    Measure("moved", "moved by balloons, GiB", 2),
    Measure("vmm_cpu", "CPU seconds of a guest's VMM"),
    Measure("controller_cpu", "CPU seconds of the controller", 1),
)


def figures(timeline: Timeline) -> dict[str, float]:
    """Of a run that came to its end. Seconds are of the quick day (runner/speed.py), CPU seconds of this machine. A load that was never
    satisfied counts with the time that it waited."""
    waits = [wait for phase in timeline.phases for wait in _waits(phase)]
    last, sample = timeline.phases[-1], timeline.samples[-1]
    first = timeline.first_host

    def of_guests(*names: str) -> int:
        return sum(guest["status"]["vmstat"].get(name, 0) for guest in last.guests.values() if "status" in guest for name in names)

    cpu = [guest["cpu"] for guest in sample["guests"].values() if "cpu" in guest]
    return {
        "satisfied": sum(satisfied for _, satisfied in waits), "loads": len(waits),
        "median_seconds": statistics.median(seconds for seconds, _ in waits), "longest_seconds": max(seconds for seconds, _ in waits),
        "deficit": sum(_deficit(phase) for phase in timeline.phases) / GIB,
        "guest_swap": of_guests("pswpin", "pswpout") * PAGE / MIB,
        "host_swap_in": (sample["host"]["swap_in_pages"] - first["swap_in_pages"]) * PAGE / MIB,
        "host_swap_out": (sample["host"]["swap_out_pages"] - first["swap_out_pages"]) * PAGE / MIB,
        "kills": of_guests("oom_kill") + sample["host"]["oom_kills"] - first["oom_kills"],
        "moved": of_guests("balloon_inflate", "balloon_deflate") * PAGE / GIB,
        "vmm_cpu": statistics.mean(cpu), "controller_cpu": sample["daemon"]["cpu"] if sample["daemon"] else 0,
    }


def _factor(phase: Phase) -> float:
    return statistics.mean(sample["factor"] for sample in phase.samples)


def _waits(phase: Phase) -> list[tuple[float, bool]]:
    """(seconds, whether it was satisfied) of each load."""
    factor = _factor(phase)
    end = phase.end or phase.samples[-1]["t"]
    return [((end - phase.start if demand["seconds"] is None else demand["seconds"]) / factor, demand["seconds"] is not None)
            for demand in phase.demands if demand["command"].startswith("load")]


def _deficit(phase: Phase) -> float:
    """Bytes x seconds that loads had asked for and did not have in the host's memory or the guest's."""
    total = 0.0
    for before, after in zip(phase.samples, phase.samples[1:]):
        lacking = sum(max(0, guest["load"]["requested"] - guest["load"]["resident"]) for guest in after["guests"].values() if guest.get("load"))
        total += lacking * (after["t"] - before["t"]) / after["factor"]
    return total


def table(runs: dict[str, list[dict[str, float]]]) -> list[list[str]]:
    """A row a measure: its title, then each controller's median, with (min to max) where rounds differ."""
    def cell(values: list[float], digits: int) -> str:
        shown = [f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))]
        return shown[0] if shown[1] == shown[2] else f"{shown[0]} ({shown[1]} to {shown[2]})"

    return [[measure.title, *(cell([each[measure.key] for each in runs[name]], measure.digits) for name in runs)] for measure in MEASURES]


def in_words(runs: dict[str, list[dict[str, float]]]) -> str:
    rows = [["", *(TITLES[name] for name in runs)], *table(runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    pad: Callable[[str, int, int], str] = lambda text, width, column: text.ljust(width) if column == 0 else text.rjust(width)
    return "\n".join("  ".join(pad(text, width, column) for column, (text, width) in enumerate(zip(row, widths))).rstrip() for row in rows)

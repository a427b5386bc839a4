# SPDX-License-Identifier: Apache-2.0
"""The verdict over a run: a function of its recorded timeline and of nothing else."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from runner.speed import MAX_FACTOR

from .checks import Check, run_checks
from .timeline import Phase, Timeline

# Between two samples, of one a second: then the whole machine stood still, and with it all that is counted by periods.
GAP_SECONDS = 60


class Outcome(Enum):
    """The exit status of `scenario` and `judge`. 2 is what they give when a run cannot begin."""
    PASSED = 0
    FAILED = 1
    TOO_SLOW = 3
    HOST_LOST = 4


@dataclass
class Verdict:
    outcome: Outcome
    checks: list[Check]
    reason: str | None = None  # why nothing was judged


def judge(timeline: Timeline, further: Sequence[Check] = ()) -> Verdict:
    """`further`: checks of what the run left behind. What all pass is passed, however slow the machine was; and a process that ended by
    itself has failed on any machine."""
    checks = [*run_checks(timeline), *further]
    if timeline.host_lost:
        return Verdict(Outcome.HOST_LOST, checks, timeline.host_lost)
    if all(check.passed for check in checks):
        return Verdict(Outcome.PASSED, checks)
    slow = too_slow(timeline)
    if slow and not timeline.ended:
        return Verdict(Outcome.TOO_SLOW, checks, slow)
    return Verdict(Outcome.FAILED, checks)


def too_slow(timeline: Timeline) -> str | None:
    """Why the machine was too slow to tell a fault from its slowness, if it was."""
    if timeline.too_slow:
        return timeline.too_slow
    for speed in timeline.speeds:
        if speed["factor"] > MAX_FACTOR:
            return f"its speed factor was {speed['factor']:.1f} {speed['when']}, above {MAX_FACTOR:.0f}"
    for phase in timeline.phases:
        factor = phase_factor(phase)
        if factor is not None and factor > MAX_FACTOR:
            return f"its speed factor was {factor:.1f} in {phase.name}, above {MAX_FACTOR:.0f}"
        gap = max((b["t"] - a["t"] for a, b in zip(phase.samples, phase.samples[1:])), default=0)
        if gap > GAP_SECONDS * max(1.0, factor or 1.0):
            return f"it stood still for {gap:.0f} s in {phase.name}"
    return None


def phase_factor(phase: Phase) -> float | None:
    factors = [sample["factor"] for sample in phase.samples if "factor" in sample]
    return statistics.median(factors) if factors else None

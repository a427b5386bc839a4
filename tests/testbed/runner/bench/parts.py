# SPDX-License-Identifier: Apache-2.0
"""The parts of the comparison in their order: what each runs, for whom, and how long it may take."""

from dataclasses import dataclass, replace
from typing import Callable

from .. import vmm
from . import balloon, block, durability, network, start
from .bed import SUBJECTS, Bed

# Budgets are for a run of this length, and stretch with --minutes.
MINUTES = 40


@dataclass(frozen=True)
class Part:
    name: str
    title: str
    step: Callable[[Bed, str], dict]  # the figures of one VMM in one round
    budget: int  # seconds for all rounds; the first one is run in any case
    limit: int  # seconds for one step
    subjects: tuple[str, ...] = SUBJECTS


PARTS = [
    Part("boot", "process start to the guest's init", start.boot, 260, 200),
    Part("memory", "the VMM's own memory, six guests running", start.memory, 210, 330),
    Part("idle", "CPU of an idle guest", start.idle, 140, 120),
    Part("balloon", "shrink and grow by 1 GiB", balloon.balloon, 400, 400),
    Part("reporting", "free page reporting of 1 GiB", balloon.reporting, 240, 240),
    Part("statistics", "round trips of statistics", balloon.statistics, 60, 200, (vmm.OURS,)),
    Part("block", "fio on a raw disk, direct, io_uring", block.block, 400, 260),
    Part("net", "iperf3 and round trips over a tap", network.user_space, 280, 200),
    Part("vhost", "the same with vhost-net", network.vhost, 220, 200),
    Part("durability", "kill -9 of the VMM during writes", durability.durability, 110, 400, (vmm.OURS, "qemu-pc")),
]


def select(names: str, against_old: bool = False) -> list[Part]:
    """The parts that a comma-separated list names, in their own order; all for an empty one. Run by ours and its peers, or by ours and
    the old one."""
    wanted = [name for name in names.split(",") if name]
    known = {part.name for part in PARTS}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"there is no part {', '.join(unknown)}; there are {', '.join(part.name for part in PARTS)}")
    chosen = [part for part in PARTS if not wanted or part.name in wanted]
    return [replace(part, subjects=(vmm.OURS, vmm.OLD)) for part in chosen] if against_old else chosen


def room_for_another(done: int, repeats: int, elapsed: float, longest: float, budget: float) -> bool:
    """Whether another round is wanted, and would end within the budget if it took as long as the longest so far."""
    return done < repeats and (done == 0 or elapsed + longest <= budget)

# SPDX-License-Identifier: Apache-2.0
"""A static partition: each guest's balloon is set once, to its share by weight, and left."""

import time

from ..guest import GuestError
from ..qmp import Qmp
from ..speed import MACHINE
from .mix import Mix

MIB = 1 << 20
# What a partition leaves to the host: its kernel and programs, and for each VMM its own memory and the guest's page tables.
HOST_KEEPS = 192 * MIB
GUEST_COSTS = 16 * MIB
REACH_SECONDS = 240
NEARLY = 2 * MIB


def shares(claims: dict[str, tuple[int, int, int]], budget: int) -> dict[str, int]:
    """(minimum, memory, weight) of each guest -> its share: proportional to weight, at least the minimum, at most the memory."""
    fixed: dict[str, int] = {}
    while True:
        open_claims = {name: claim for name, claim in claims.items() if name not in fixed}
        left, weights = budget - sum(fixed.values()), sum(weight for _, _, weight in open_claims.values())
        wanted = {name: left * weight // weights for name, (_, _, weight) in open_claims.items()}
        clamped = {name: min(max(wanted[name], low), high) for name, (low, high, _) in open_claims.items()}
        over = sum(clamped.values()) - sum(wanted.values())
        # What is taken beyond the sum decides which bound holds for good; the rest is shared out anew.
        settled = {name: size for name, size in clamped.items() if size != wanted[name] and (over == 0 or (size > wanted[name]) == (over > 0))}
        if not settled:
            return {name: size // MIB * MIB for name, size in (fixed | clamped).items()}
        fixed |= settled
        if len(fixed) == len(claims):
            return {name: size // MIB * MIB for name, size in fixed.items()}


def partition(mix: Mix, host_available: int) -> dict[str, int]:
    """Sizes of guests on a host that has so much to give before they start."""
    claims = {guest.spec.name: (guest.minimum, guest.spec.memory, guest.weight) for guest in mix.guests}
    return shares(claims, host_available - HOST_KEEPS - GUEST_COSTS * len(mix.guests))


def set_balloons(monitors: dict[str, Qmp], sizes: dict[str, int]):
    """All at once; returns when each has its size."""
    for name, monitor in monitors.items():
        monitor("balloon", value=sizes[name])
    deadline = MACHINE.quick_now() + REACH_SECONDS
    for name, monitor in monitors.items():
        while abs((actual := monitor("query-balloon")["actual"]) - sizes[name]) > NEARLY:
            if MACHINE.quick_now() > deadline:
                raise GuestError(f"guest {name}: its balloon was set to {sizes[name] // MIB} MiB and is at {actual // MIB} MiB")
            time.sleep(0.5)

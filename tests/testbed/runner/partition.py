# SPDX-License-Identifier: Apache-2.0
"""What a static partition gives each guest of a scenario."""

from fnmatch import fnmatchcase

from .scenario import Scenario, parse_size
from .workloads.static import GUEST_COSTS, HOST_KEEPS, shares

MINIMUM = "256M"


def partition_of(scenario: Scenario, host_available: int) -> dict[str, int]:
    """Sizes of guests on a host that has so much to give before they start: by the minimums and weights of the policy, of which it knows
    the names of guests."""
    defaults = scenario.policy.get("defaults", {})

    def claim(guest) -> tuple[int, int, int]:
        rule: dict = next((rule for rule in scenario.policy.get("guests", []) if fnmatchcase(guest.name, rule.get("name", "*"))), {})
        minimum = parse_size(str(rule.get("min", defaults.get("min", MINIMUM))), f"policy: min of {guest.name}")
        return min(minimum, guest.memory), guest.memory, rule.get("weight", defaults.get("weight", 100))

    claims = {guest.name: claim(guest) for guest in scenario.guests}
    return shares(claims, host_available - HOST_KEEPS - GUEST_COSTS * len(claims))

# SPDX-License-Identifier: Apache-2.0
"""What a run with the daemon must show. Each check says what it found."""

from dataclasses import dataclass

from .figures import PAGE
from .timeline import Phase, Timeline

IDLE_ALLOWANCE = 512 << 20  # an idle guest may have this much beyond what it uses
# Of a load this much must be resident at a phase's end: the guest's kernel may age a page or two of anything to its swap.
LOAD_RESIDENT_MIN = 0.99
SHARE_TOLERANCE = 0.10
# Shares are judged by the mean over the last seconds of a phase: a balloon takes a moment to follow.
SHARE_WINDOW_SECONDS = 10


@dataclass
class Check:
    name: str
    passed: bool
    found: str


def run_checks(timeline: Timeline) -> list[Check]:
    checks = [_all_up(timeline), _no_oom_kill(timeline)]
    for phase in timeline.phases:
        if phase.end is None or not phase.samples:
            checks.append(Check(f"{phase.name} was completed", False, timeline.failure or timeline.too_slow or timeline.host_lost or "it was not"))
        elif phase.fits:
            checks += [_no_swap_in(phase), _loads_satisfied(phase)]
            if phase.idle:
                checks.append(_idle_gave(phase))
        elif phase.fits is False:
            checks += [_shares(phase), _minimums(phase)]
    return checks


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def _all_up(timeline: Timeline) -> Check:
    name = f"all {len(timeline.memory)} guests up together, to the end"
    configured = sum(timeline.memory.values()) / 2**30
    host = timeline.first_host.get("total", 0) / 2**30
    if timeline.failure or timeline.too_slow or timeline.host_lost:
        return Check(name, False, timeline.failure or timeline.too_slow or timeline.host_lost)
    if timeline.restarts:
        return Check(name, False, "; ".join(f"{event['guest']} started again" for event in timeline.restarts))
    ended = timeline.end is not None and timeline.end["guests_powered_off"] == len(timeline.memory)
    return Check(name, ended, f"{configured:.0f} GiB configured on a host with {host:.1f} GiB; "
                              + ("all powered off cleanly" if ended else "the run did not come to its end"))


def _no_oom_kill(timeline: Timeline) -> Check:
    host_kills = (timeline.end or (timeline.samples[-1] if timeline.samples else {"host": timeline.first_host}))["host"].get("oom_kills", 0) \
        - timeline.first_host.get("oom_kills", 0)
    guest_kills = {}
    for phase in timeline.phases:
        for guest, final in phase.guests.items():
            if "status" in final:
                guest_kills[guest] = final["status"]["vmstat"]["oom_kill"]
    bad = [f"{guest}: {count}" for guest, count in guest_kills.items() if count]
    bad += [f"{event['guest']} said: {event['line']}" for event in timeline.troubles]
    return Check("no OOM kill on the host or in a guest", host_kills == 0 and not bad and bool(guest_kills),
                 f"host {host_kills:.0f}, guests {', '.join(bad) if bad else 0}")


def _no_swap_in(phase: Phase) -> Check:
    pages = phase.samples[-1]["host"]["swap_in_pages"] - phase.samples[0]["host"]["swap_in_pages"]
    return Check(f"{phase.name}: host swap-in is 0 pages", pages == 0, f"{pages:.0f} pages ({_mib(pages * PAGE)})")


def _loads_satisfied(phase: Phase) -> Check:
    found, passed = [], bool(phase.loaded)
    for guest in phase.loaded:
        demand = next(demand for demand in phase.demands if demand["guest"] == guest and demand["command"].startswith("load"))
        final = phase.guests.get(guest, {})
        if "check" not in final:
            found.append(f"{guest}: no answer ({final.get('error')})")
            passed = False
            continue
        requested, present = final["status"]["load"]["requested"], final["check"]["present"]
        good = demand["seconds"] is not None and present >= LOAD_RESIDENT_MIN * requested
        passed = passed and good
        when = f"after {demand['seconds']:.0f} s" if demand["seconds"] is not None else "never all at once"
        found.append(f"{guest} {_mib(present)} of {_mib(requested)} resident, {_mib(final['check']['swapped'])} swapped, satisfied {when}")
    return Check(f"{phase.name}: loaded guests get what they ask for", passed, "; ".join(found))


def _idle_gave(phase: Phase) -> Check:
    found, passed = [], True
    for guest in phase.idle:
        actual = phase.samples[-1]["guests"][guest].get("actual")
        available = phase.guests.get(guest, {}).get("status", {}).get("meminfo", {}).get("MemAvailable")
        if actual is None or available is None:
            found.append(f"{guest}: no figures")
            passed = False
            continue
        used = max(0, actual - available)
        passed = passed and actual <= IDLE_ALLOWANCE + used
        found.append(f"{guest} has {_mib(actual)}, uses {_mib(used)}")
    return Check(f"{phase.name}: idle guests are at or below 512 MiB + used", passed, "; ".join(found))


def _window_mean(phase: Phase, guest: str, what: str) -> float | None:
    last = phase.samples[-1]["t"]
    values = [sample["guests"][guest][what] for sample in phase.samples
              if sample["t"] >= last - SHARE_WINDOW_SECONDS and sample["guests"].get(guest, {}).get(what) is not None]
    return sum(values) / len(values) if values else None


def water_level_shares(claims: dict[str, tuple[float, float, float]], budget: float) -> dict[str, float]:
    """clamp(level * weight, low, high) for the level at which they add up to the budget, by bisection."""
    def shares(level):
        return {name: min(max(level * weight, low), high) for name, (low, high, weight) in claims.items()}
    below, above = 0.0, max(high / weight for _, high, weight in claims.values())
    for _ in range(100):
        middle = (below + above) / 2
        if sum(shares(middle).values()) < budget:
            below = middle
        else:
            above = middle
    return shares(above)


def _shares(phase: Phase) -> Check:
    name = f"{phase.name}: shares follow weights within {SHARE_TOLERANCE:.0%}"
    actual, claims = {}, {}
    for guest in phase.samples[-1]["guests"]:
        seen = {what: _window_mean(phase, guest, what) for what in ("actual", "need", "min", "max", "weight")}
        if None in seen.values():
            return Check(name, False, f"{guest}: no figures from the daemon")
        actual[guest] = seen["actual"]
        claims[guest] = (seen["min"], max(seen["min"], min(seen["need"], seen["max"])), seen["weight"])
    expected = water_level_shares(claims, sum(actual.values()))
    found, passed, judged = [], True, 0
    for guest, share in expected.items():
        low, high, weight = claims[guest]
        between = low < share < high * 0.999
        off = actual[guest] / share - 1
        if between:
            judged += 1
            passed = passed and abs(off) <= SHARE_TOLERANCE
        found.append(f"{guest} (weight {weight:.0f}) {_mib(actual[guest])}, " + (f"{off:+.1%}" if between else "has all it needs or its minimum"))
    return Check(name, passed and judged >= 2, "; ".join(found))


def _minimums(phase: Phase) -> Check:
    found, passed = [], True
    for guest, seen in phase.samples[-1]["guests"].items():
        lowest = min((sample["guests"][guest]["actual"] for sample in phase.samples
                      if sample["guests"][guest].get("actual") is not None), default=None)
        good = lowest is not None and seen.get("min") is not None and lowest >= seen["min"]
        passed = passed and good
        found.append(f"{guest} {'?' if lowest is None else _mib(lowest)}")
    return Check(f"{phase.name}: nobody is below its minimum, and the host lives", passed, "lowest sizes: " + ", ".join(found))

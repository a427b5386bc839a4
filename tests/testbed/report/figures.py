# SPDX-License-Identifier: Apache-2.0
"""The figures of a phase, from its samples and final measurements."""

import statistics
from collections.abc import Callable

from .timeline import Phase, Timeline

PAGE = 4096
# A turn counts as a reversal when the size has come back this far: less is the statistics' own noise.
REVERSAL_MIN = 32 << 20


def run_figures(timeline: Timeline) -> dict:
    return {"boot_seconds": timeline.boots, "phases": {phase.name: phase_figures(phase) for phase in timeline.phases}}


def phase_figures(phase: Phase) -> dict:
    loads = [demand for demand in phase.demands if demand["command"].startswith("load")]
    reads = [demand for demand in phase.demands if demand["command"].startswith("read")]
    return {
        "title": phase.title, "fits": phase.fits, "seconds": _duration(phase), "quick_seconds": phase.quick_seconds, "why": phase.why,
        "load_satisfaction": _satisfaction(loads), "read_satisfaction": _satisfaction(reads),
        "moved_gib": round(sum(sum(abs(b - a) for a, b in zip(sizes, sizes[1:])) for sizes in _actuals(phase)) / 2**30, 2),
        "reversals": sum(_reversals(sizes) for sizes in _actuals(phase)),
        "host_swap_in_pages": _counter(phase, "swap_in_pages"), "host_swap_out_pages": _counter(phase, "swap_out_pages"),
        "guest_swapped_mib": {name: round(guest["check"]["swapped"] / 2**20) for name, guest in phase.guests.items()
                              if "check" in guest},
        "psi": _pressure(phase), "daemon": _daemon(phase), "vmm_overhead": _overhead(phase),
        "vmm_rss_mib": {name: round(guest["rss"] / 2**20) for name, guest in _last_guests(phase).items() if "rss" in guest},
    }


def _duration(phase: Phase) -> float | None:
    return None if phase.end is None else round(phase.end - phase.start, 1)


def _satisfaction(demands: list[dict]) -> dict:
    seconds = sorted(demand["seconds"] for demand in demands if demand["seconds"] is not None)
    return {"demands": len(demands), "satisfied": len(seconds), "p50_seconds": statistics.median(seconds) if seconds else None,
            "max_seconds": seconds[-1] if seconds else None}


def _actuals(phase: Phase) -> list[list[int]]:
    names = sorted({name for sample in phase.samples for name in sample["guests"]})
    return [[sample["guests"][name]["actual"] for sample in phase.samples
             if sample["guests"].get(name, {}).get("actual") is not None] for name in names]


def _reversals(sizes: list[int]) -> int:
    """Turns of at least REVERSAL_MIN."""
    count, direction, extreme = 0, 0, sizes[0] if sizes else 0
    for size in sizes:
        if direction >= 0 and size > extreme or direction <= 0 and size < extreme:
            if direction == 0 and abs(size - extreme) >= REVERSAL_MIN:
                direction = 1 if size > extreme else -1
            if direction != 0:
                extreme = size
        elif direction != 0 and abs(size - extreme) >= REVERSAL_MIN:
            count, direction, extreme = count + 1, -direction, size
    return count


def _counter(phase: Phase, name: str) -> int | None:
    values = [sample["host"][name] for sample in phase.samples]
    return int(values[-1] - values[0]) if values else None


def _pressure(phase: Phase) -> dict | None:
    if len(phase.samples) < 2:
        return None
    first, last = phase.samples[0], phase.samples[-1]
    elapsed = max(0.1, last["t"] - first["t"])
    return {f"{kind}_ratio": round((last["host"][f"psi_{kind}_us"] - first["host"][f"psi_{kind}_us"]) / 1e6 / elapsed, 4)
            for kind in ("some", "full")}


def _daemon(phase: Phase) -> dict | None:
    seen = [sample["daemon"] for sample in phase.samples if sample["daemon"]]
    if not seen:
        return None
    return {"cpu_seconds": round(seen[-1]["cpu"] - seen[0]["cpu"], 2),
            "rss_mib": round(max(sample["rss"] for sample in seen) / 2**20, 1)}


def _overhead(phase: Phase) -> dict | None:
    picks: dict[str, Callable[[list[int]], float]] = {"median": statistics.median, "max": max}
    found = [overhead for overhead in phase.overhead.values() if overhead and overhead["ram_found"]]
    if not found:
        return None
    return {"guests": len(found),
            **{f"{what}_mib_{name}": round(pick([overhead[what] for overhead in found]) / 2**20, 2)
               for what in ("private", "pss") for name, pick in picks.items()}}


def _last_guests(phase: Phase) -> dict[str, dict]:
    return phase.samples[-1]["guests"] if phase.samples else {}

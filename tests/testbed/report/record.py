# SPDX-License-Identifier: Apache-2.0
"""Recorded runs: the events that the runner sent, one JSON object a line, to be judged again (tests/testbed/judge)."""

import json
from pathlib import Path

from .timeline import Timeline

# What checks and figures take of a sample.
HOST = ("total", "free", "swap_in_pages", "swap_out_pages", "oom_kills", "psi_some_us", "psi_full_us")
GUEST = ("alive", "actual", "need", "min", "max", "weight", "rss")
# Of a phase's samples these are kept in small: the last seconds, in which shares are judged, and one now and then.
WINDOW_SECONDS = 12
EVERY_SECONDS = 50  # closer than verdict.GAP_SECONDS


def write(events: list[dict], path: Path):
    path.write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events))


def read(path: Path) -> Timeline:
    timeline = Timeline()
    for line in path.read_text().splitlines():
        timeline.add_line(line)
    return timeline


def thinned(events: list[dict]) -> list[dict]:
    """The same run in small: fewer samples, and of them what is looked at. Each guest's smallest size stays."""
    kept = _kept_samples(events)
    found = []
    for number, event in enumerate(events):
        if event["event"] == "sample":
            if number in kept:
                found.append(_thin_sample(event))
        elif event["event"] not in ("guest_console", "worker"):
            found.append(event)
    return found


def _kept_samples(events: list[dict]) -> set[int]:
    kept: set[int] = set()
    phase: list[tuple[int, dict]] = []
    before: list[tuple[int, dict]] = []
    for number, event in enumerate(events):
        if event["event"] == "phase_start":
            phase = before[-1:]
        elif event["event"] == "sample":
            phase.append((number, event))
            before = [(number, event)]
        if event["event"] in ("phase_end", "failed", "too_slow", "host_lost") and phase:
            kept |= _kept_of_phase(phase)
            phase = []
    return kept


def _kept_of_phase(samples: list[tuple[int, dict]]) -> set[int]:
    last = samples[-1][1]["t"]
    kept, at = {samples[0][0]}, samples[0][1]["t"]
    for number, sample in samples:
        if sample["t"] >= at + EVERY_SECONDS or sample["t"] >= last - WINDOW_SECONDS:
            kept.add(number)
            at = sample["t"]
    for guest in last_guests(samples):
        sized = [(sample["guests"][guest]["actual"], number) for number, sample in samples
                 if sample["guests"].get(guest, {}).get("actual") is not None]
        if sized:
            kept.add(min(sized)[1])
    return kept


def last_guests(samples: list[tuple[int, dict]]) -> list[str]:
    return sorted(samples[-1][1]["guests"])


def _thin_sample(event: dict) -> dict:
    return {**event, "host": {key: event["host"][key] for key in HOST},
            "guests": {name: {key: value for key, value in guest.items() if key in GUEST} for name, guest in event["guests"].items()}}

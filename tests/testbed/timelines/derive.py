#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes recordings of what a real run seldom shows, of a real one: quick.jsonl is tests/scenarios/small.yaml in the testbed, its speed
factor 1.9 to 2.7, in small (tests/testbed/judge --thin). busy.jsonl is real, too, and nothing is made of it: the demo at factors of 2.3 to 5.8.
Each is made by a named transformation of its events. Without arguments: writes all of them."""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOST = "BUG: TASK stack guard page was hit"


def file_of(name: str) -> Path:
    return HERE / f"{name}.jsonl"


def events_of(name: str) -> list[dict]:
    return [json.loads(line) for line in file_of(name).read_text().splitlines()]


def until_phase(events: list[dict], phase: str, share: float = 0.5) -> list[dict]:
    """Up to some way into a phase."""
    first = next(number for number, event in enumerate(events) if event["event"] == "phase_start" and event["phase"] == phase)
    last = next(number for number, event in enumerate(events) if event["event"] == "phase_end" and event["phase"] == phase)
    return events[:first + 1 + int((last - first) * share)]


def ended_by(events: list[dict], **event) -> list[dict]:
    return [*events, {"t": events[-1]["t"] + 1, **event}]


def guest_dead(events: list[dict]) -> list[dict]:
    return ended_by(until_phase(events, "phase-2"), event="failed", ended=True,
                    reason="guest C: its VMM ended with status 1 in phase phase-2; it said: nothing; console: []")


def host_lost(events: list[dict]) -> list[dict]:
    return ended_by(until_phase(events, "phase-2"), event="host_lost", reason=f"{LOST}; {LOST}; {LOST}")


def gave_up(events: list[dict]) -> list[dict]:
    return ended_by(until_phase(events, "phase-1"), event="too_slow",
                    reason="its speed factor is 14.0, and has been above 12 for 180 s")


def stalled(events: list[dict]) -> list[dict]:
    """In phase-2 one guest's load stops half-way, and nothing moves any more."""
    found = []
    for event in events:
        if event["event"] == "phase_end" and event["phase"] == "phase-2":
            guest = next(demand["guest"] for demand in event["demands"] if demand["command"].startswith("load"))
            demands = [{**demand, "seconds": None} if demand["guest"] == guest and demand["command"].startswith("load") else demand
                       for demand in event["demands"]]
            final = event["guests"][guest]
            half = {**final, "check": {**final["check"], "present": final["check"]["present"] // 2}}
            event = {**event, "why": "stalled", "demands": demands, "guests": {**event["guests"], guest: half}}
        found.append(event)
    return found


def share_off(events: list[dict]) -> list[dict]:
    """In phase-3 one guest has a quarter more than it had, and the one after it that much less."""
    found = []
    for event in events:
        if event["event"] == "sample" and event["phase"] == "phase-3":
            guests = {name: dict(guest) for name, guest in event["guests"].items()}
            first, second = sorted(guests)[-2:]
            moved = guests[first]["actual"] // 4
            guests[first]["actual"] += moved
            guests[second]["actual"] -= moved
            event = {**event, "guests": guests}
        found.append(event)
    return found


def at_factor(events: list[dict], factor: float) -> list[dict]:
    """The same, with the machine's speed told as that."""
    return [{**event, "factor": factor} if "factor" in event else event for event in events]


def slower(events: list[dict], times: float) -> list[dict]:
    """The same on a machine so many times slower: all took as much longer."""
    found = []
    for event in at_factor(events, 0.0):
        event = {**event, "t": event["t"] * times}
        if "seconds" in event:
            event["seconds"] = event["seconds"] * times
        if "demands" in event:
            event["demands"] = [{**demand, "seconds": demand["seconds"] and demand["seconds"] * times} for demand in event["demands"]]
        found.append(event)
    return [{**after, "factor": before["factor"] * times} if "factor" in before else after for before, after in zip(events, found)]


def stood_still(events: list[dict]) -> list[dict]:
    """For ten minutes in phase-3, in the middle of its samples."""
    found, seen, late = [], 0, 0.0
    for event in events:
        if event["event"] == "sample" and event["phase"] == "phase-3":
            seen += 1
            late = 600.0 if seen == 4 else late
        found.append({**event, "t": event["t"] + late})
    return found


DERIVED = {
    "three-times-slower": lambda: slower(events_of("quick"), 3.0),
    "stalled": lambda: stalled(events_of("quick")),
    "guest-dead": lambda: guest_dead(events_of("quick")),
    "guest-dead-too-slow": lambda: at_factor(guest_dead(events_of("quick")), 15.0),
    "share-off": lambda: share_off(events_of("quick")),
    "host-lost": lambda: host_lost(events_of("quick")),
    "too-slow": lambda: at_factor(share_off(events_of("quick")), 15.0),
    "too-slow-passed": lambda: at_factor(events_of("quick"), 15.0),
    "stood-still": lambda: stood_still(share_off(events_of("quick"))),
    "gave-up": lambda: gave_up(events_of("quick")),
}


def derived(name: str) -> str:
    return "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in DERIVED[name]())


if __name__ == "__main__":
    for each in DERIVED:
        file_of(each).write_text(derived(each))

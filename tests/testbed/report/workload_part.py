# SPDX-License-Identifier: Apache-2.0
"""One part of the comparison of controllers (a mix, a controller, a round): made of the run's events, kept as a JSON file."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class PartName:
    round: int
    mix: str
    controller: str

    def __str__(self):
        return f"{self.mix}/{self.controller}/{self.round}"

    def chosen_by(self, patterns: list[str]) -> bool:
        """Each pattern is the beginning of a name, of whole words between '/'. None at all choose everything."""
        words = str(self).split("/")
        return not patterns or any(words[:len(pattern.split("/"))] == pattern.split("/") for pattern in patterns)

    def file(self, directory: Path) -> Path:
        return directory / f"{self.mix}-{self.controller}-{self.round}.json"


def plan(mixes: list[str], controllers: list[str], rounds: int, only: str) -> list[PartName]:
    """Controllers take turns, so that a machine that changes its speed meets all alike."""
    patterns = [pattern for pattern in only.split(",") if pattern]
    if rounds < 1:
        raise ValueError(f"{rounds} rounds are none")
    everything = [PartName(number, mix, controller) for number in range(1, rounds + 1) for mix in mixes for controller in controllers]
    for pattern in patterns:
        if not any(name.chosen_by([pattern]) for name in everything):
            raise ValueError(f"no part's name begins with '{pattern}'; the first is {everything[0]}, the last {everything[-1]}")
    return [name for name in everything if name.chosen_by(patterns)]


def inputs_digest(document: dict, devices: str) -> str:
    """What a kept result must have been made from, to stand for a new run."""
    return hashlib.sha256(json.dumps([document, devices], sort_keys=True).encode()).hexdigest()[:16]


# What a report shows of host and guests in a sample.
_SHOWN_OF_HOST = ("total", "free", "swap_used")
_SHOWN_OF_GUEST = ("alive", "actual", "need", "rss", "swap")


def _in_short(event: dict) -> dict:
    if event["event"] == "sample":
        return {"event": "sample", "t": event["t"], "host": {key: event["host"][key] for key in _SHOWN_OF_HOST if key in event["host"]},
                "guests": {name: {key: value for key, value in guest.items() if key in _SHOWN_OF_GUEST} for name, guest in event["guests"].items()}}
    kept = ("event", "t", "phase", "title", "guest", "seconds", "command", "error", "reason")
    return {key: event[key] for key in kept if key in event}


class PartRecord:
    """Takes a run's events, one by one."""

    def __init__(self, name: PartName, inputs: str):
        self.name, self.inputs = name, inputs
        self.restarts = 0
        self.minutes: float | None = None  # with all restarts
        self.forget()

    def forget(self):
        """For a run that begins anew."""
        self.failure: str | None = None
        self.too_slow = False
        self.speeds: list[dict] = []
        self.devices: dict | None = None
        self.phases: dict[str, dict] = {}
        self.quick_minutes: float | None = None  # what the run would have taken on the quick day, without the emulated host's own boot
        self.boots: dict[str, float] = {}
        self.settled: dict[str, dict] = {}
        self.partition: dict | None = None
        self.least_host_available: int | None = None
        self.agents_restarted: list[str] = []
        self.end: dict | None = None
        self.events: list[dict] = []  # for the report: samples and what happened
        self._host_at_start: dict = {}

    def take(self, event: dict):
        kind = event["event"]
        if kind in ("sample", "phase_start", "phase_end", "guest_up", "work", "failed", "end"):
            self.events.append(_in_short(event))
        if kind == "start":
            self._host_at_start = event["host"]
        elif kind == "speed":
            self.speeds.append({key: event[key] for key in ("when", "factor", "slowdown")})
        elif kind == "devices":
            self.devices = {key: event[key] for key in ("devices", "slowdown", "measured")}
        elif kind == "guest_up":
            self.boots[event["guest"]] = event["seconds"]
        elif kind == "guest_restarted":
            self.agents_restarted.append(event["guest"])
        elif kind == "settled":
            self.settled[event["after"]] = {key: event[key] for key in ("quiet", "quick_seconds", "guests")} | {
                "host": {key: event["host"][key] for key in ("available", "swap_used")}}
        elif kind == "partition":
            self.partition = event["sizes"]
        elif kind == "phase_start":
            self.phases[event["phase"]] = {"title": event["title"], "work": []}
        elif kind == "work":
            self.phases[event["phase"]]["work"].append({key: value for key, value in event.items() if key not in ("event", "t", "phase")})
        elif kind == "phase_end":
            self.phases[event["phase"]] |= {"seconds": event["seconds"], "host": event["host"]}
        elif kind == "sample":
            available = event["host"]["available"]
            self.least_host_available = min(available, self.least_host_available or available)
        elif kind == "failed":
            self.failure, self.too_slow = event["reason"], event.get("too_slow", False)
        elif kind == "end":
            self.quick_minutes = round(event["quick_seconds"] / 60, 2)
            self.end = {"guests": event["guests"], "host_oom_kills": event["host"]["oom_kills"] - self._host_at_start["oom_kills"]}

    def complete(self) -> bool:
        return self.failure is None and self.end is not None

    def document(self) -> dict:
        return {"name": str(self.name), "mix": self.name.mix, "controller": self.name.controller, "round": self.name.round,
                "inputs": self.inputs, "complete": self.complete(), "failure": self.failure, "too_slow": self.too_slow,
                "outer_host_restarts": self.restarts, "minutes": self.minutes, "quick_minutes": self.quick_minutes,
                "settled": self.settled, "speeds": self.speeds, "devices": self.devices, "boots": self.boots,
                "partition": self.partition, "phases": self.phases, "least_host_available": self.least_host_available,
                "agents_restarted": self.agents_restarted, "end": self.end, "events": self.events}

    def write(self, directory: Path):
        directory.mkdir(parents=True, exist_ok=True)
        path = self.name.file(directory)
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(json.dumps(self.document(), indent=1) + "\n")
        fresh.rename(path)


def load(name: PartName, directory: Path, inputs: str) -> dict | None:
    """A kept result that is complete and made from the same inputs."""
    try:
        found = json.loads(name.file(directory).read_text())
    except (OSError, ValueError):
        return None
    return found if found.get("complete") and found.get("inputs") == inputs else None

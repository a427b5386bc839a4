# SPDX-License-Identifier: Apache-2.0
"""A run as it was: the events of one scenario run in order, phase by phase."""

import json
from dataclasses import dataclass, field


@dataclass
class Phase:
    name: str
    title: str
    fits: bool | None
    loaded: list[str]
    idle: list[str]
    start: float
    end: float | None = None
    demands: list[dict] = field(default_factory=list)
    guests: dict[str, dict] = field(default_factory=dict)  # exact figures at the end
    overhead: dict[str, dict] = field(default_factory=dict)
    samples: list[dict] = field(default_factory=list)  # the last one before the phase first
    why: str | None = None  # it ended: "done", "at rest", "stalled", "limit"
    quick_seconds: float | None = None  # what it would have taken on the quick day (runner/speed.py)


@dataclass
class Timeline:
    mode: str = ""
    scenario: str = ""
    vmm: str = ""
    memory: dict[str, int] = field(default_factory=dict)  # guest -> configured bytes
    first_host: dict = field(default_factory=dict)
    samples: list[dict] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    boots: dict[str, float] = field(default_factory=dict)
    restarts: list[dict] = field(default_factory=list)
    troubles: list[dict] = field(default_factory=list)
    speeds: list[dict] = field(default_factory=list)  # of the machine, as measured between phases
    failure: str | None = None
    ended: bool = False  # the failure is that a process ended, which no machine's speed explains
    too_slow: str | None = None  # what the runner said when it gave up for the machine's speed
    host_lost: str | None = None  # the emulated host itself was lost, each time
    end: dict | None = None
    events: list[dict] = field(default_factory=list)  # all of the above was made of these

    def add_line(self, line: str) -> dict | None:
        try:
            event = json.loads(line)
        except ValueError:
            return None
        self.add(event)
        return event

    def add(self, event: dict):
        kind = event["event"]
        self.events.append(event)
        if kind == "start":
            self.mode, self.scenario, self.vmm = event["mode"], event["scenario"], event["vmm"]
            self.memory = {name: guest["memory"] for name, guest in event["guests"].items()}
            self.first_host = event["host"]
        elif kind == "sample":
            self.samples.append(event)
            if self.phases and self.phases[-1].end is None:
                self.phases[-1].samples.append(event)
        elif kind == "phase_start":
            self.phases.append(Phase(event["phase"], event["title"], event["fits"], event["loaded"], event["idle"],
                                     event["t"], samples=self.samples[-1:]))
        elif kind == "phase_end":
            phase = self.phases[-1]
            phase.end, phase.demands = event["t"], event["demands"]
            phase.guests, phase.overhead = event["guests"], event["overhead"]
            phase.why, phase.quick_seconds = event.get("why"), event.get("quick_seconds")
        elif kind == "guest_up":
            self.boots[event["guest"]] = event["seconds"]
        elif kind == "guest_restarted":
            self.restarts.append(event)
        elif kind == "guest_trouble":
            self.troubles.append(event)
        elif kind == "speed":
            self.speeds.append(event)
        elif kind == "failed":
            self.failure, self.ended = event["reason"], event.get("ended", False)
        elif kind == "too_slow":
            self.too_slow = event["reason"]
        elif kind == "host_lost":
            self.host_lost = event["reason"]
        elif kind == "end":
            self.end = event

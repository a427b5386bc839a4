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
    end: dict | None = None

    def add_line(self, line: str) -> dict | None:
        try:
            event = json.loads(line)
        except ValueError:
            return None
        self.add(event)
        return event

    def add(self, event: dict):
        kind = event["event"]
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
        elif kind == "guest_up":
            self.boots[event["guest"]] = event["seconds"]
        elif kind == "guest_restarted":
            self.restarts.append(event)
        elif kind == "guest_trouble":
            self.troubles.append(event)
        elif kind == "speed":
            self.speeds.append(event)
        elif kind == "failed":
            self.failure = event["reason"]
        elif kind == "end":
            self.end = event

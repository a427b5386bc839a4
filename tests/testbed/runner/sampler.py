# SPDX-License-Identifier: Apache-2.0
"""Once a second: host, every guest as daemon, VMM process and worker show it, and the daemon itself."""

import threading
import time
from typing import Any

from . import host
from .daemon import Daemon, Watch
from .events import EventLog
from .guest import Guest, GuestError
from .mom import Mom
from .speed import MACHINE

PERIOD = 1.0
# Each character on a guest's serial console is an exit to its VMM: workers are asked seldom. Seconds of the quick day.
STATUS_PERIOD = 10.0


class Sampler:
    def __init__(self, events: EventLog, guests: dict[str, Guest], daemon: Daemon | Mom | None, watch: Watch | None):
        self._events, self._guests, self._daemon, self._watch = events, guests, daemon, watch
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._sample, daemon=True)]
        self._threads += [threading.Thread(target=self._poll, args=(guest, number), daemon=True)
                          for number, guest in enumerate(guests.values())]
        self.phase = ""
        self.guests: dict[str, dict] = {}  # the last sample

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stopping.set()
        self._threads[0].join()

    def _poll(self, guest: Guest, number: int):
        self._stopping.wait(number * STATUS_PERIOD / max(1, len(self._guests)))
        while not self._stopping.is_set():
            try:
                guest.status()
            except GuestError as error:
                if guest.alive():
                    self._events.emit("note", text=str(error))
                else:
                    return
            self._stopping.wait(MACHINE.wall(STATUS_PERIOD))

    def _sample(self):
        while not self._stopping.is_set():
            started = time.monotonic()
            seen = self._watch.guests() if self._watch else {}
            self.guests = {name: guest_sample(guest, seen.get(name)) for name, guest in self._guests.items()}
            self._events.emit("sample", phase=self.phase, factor=round(MACHINE.factor, 2), host=host.sample(), daemon=self._daemon_sample(), guests=self.guests)
            self._stopping.wait(max(0.1, PERIOD - (time.monotonic() - started)))

    def _daemon_sample(self) -> dict | None:
        return host.process(self._daemon.pid) if self._daemon and self._daemon.alive() else None


def guest_sample(guest: Guest, seen: dict | None) -> dict:
    found: dict[str, Any] = {"alive": guest.alive()}
    process = host.process(guest.pid)
    if process:
        found |= {"rss": process["rss"], "swap": process["swap"], "cpu": process["cpu"]}
    if seen:
        actual, stats, decision = seen["actual_bytes"], seen["stats"] or {}, seen["decision"] or {}
        available = stats.get("available_bytes")
        found |= {"actual": actual, "target": seen["target_bytes"], "available": available,
                  "need": decision.get("need_bytes"), "min": seen["min_bytes"], "max": seen["max_bytes"],
                  "weight": seen["weight"], "state": seen["state"], "reason": decision.get("reason", seen["state"])}
        if available is not None:
            found["used"] = max(0, actual - available)
    elif guest.last_status and not seen:
        available = guest.last_status["meminfo"]["MemAvailable"]
        found |= {"available": available, "used": guest.spec.memory - available}
    if guest.last_status:
        found["read"] = guest.last_status.get("read_bytes", 0)
    if guest.last_status and guest.last_status.get("load"):
        load = guest.last_status["load"]
        found["load"] = {key: load[key] for key in ("requested", "touched", "resident", "swapped")}
    return found

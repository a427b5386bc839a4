# SPDX-License-Identifier: Apache-2.0
"""What testbed cases start guests with, and how they say what they expected."""

import threading
import time

from . import vmm
from .events import EventLog
from .guest import Guest
from .scenario import GuestSpec, Scenario
from .session import Session
from .speed import MACHINE

GIB, MIB = 1 << 30, 1 << 20
# Seconds of the quick day (speed.py), as all limits here. One guest alone is up in 10 s.
BOOT_TIMEOUT = 240


class Bed:
    """What a case needs to start guests and a daemon; closes them behind it."""

    def __init__(self, events: EventLog, vmm_name: str, images: vmm.Images):
        self.events, self.vmm_name, self.images = events, vmm_name, images
        self.session: Session | None = None
        self.notes: list[str] = []  # what a case found out, shown with its verdict

    def open(self, with_daemon: bool = False, policy: dict | None = None) -> Session:
        scenario = Scenario("case", "", 8 * GIB, self.vmm_name, [], [], policy or {})
        self.session = Session(scenario, self.images, self.events, with_daemon, direct=False)
        if with_daemon:
            self.session.daemon.start()
        return self.session

    def boot(self, name: str = "A", memory: int = 512 * MIB, extras: vmm.Extras | None = None, cpus: int = 1) -> Guest:
        guest = self.session.add_guest(GuestSpec(name, memory, cpus=cpus), extras)
        guest.wait_ready(BOOT_TIMEOUT)
        return guest


def expect(condition, what: str):
    if not condition:
        raise AssertionError(what)


def expect_clean_power_off(guest: Guest):
    guest.ask("poweroff")
    status = guest.wait_end(120)
    expect(status == 0, f"the VMM's status after power-off is {status}, expected 0; it said: {guest.stderr_tail()}")


def wait_for(what: str, condition, patience: float):
    end = MACHINE.quick_now() + patience
    while not condition():
        expect(MACHINE.quick_now() < end, f"waited {patience:.0f} s in vain for {what}")
        time.sleep(0.5)


def wait_for_event(what: str, event: threading.Event, patience: float):
    expect(event.wait(MACHINE.wall(patience)), f"waited {patience:.0f} s in vain for {what}")


class Unchanged:
    """A condition: what it asks for has been the same for so many seconds."""

    def __init__(self, ask, seconds: float):
        self._ask, self._seconds = ask, seconds
        self._answer, self._since = ask(), MACHINE.quick_now()

    def __call__(self) -> bool:
        answer = self._ask()
        if answer != self._answer:
            self._answer, self._since = answer, MACHINE.quick_now()
        return MACHINE.quick_now() - self._since >= self._seconds

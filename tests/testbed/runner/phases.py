# SPDX-License-Identifier: Apache-2.0
"""Drives a scenario's phases: gives guests work, waits until they have what they asked for, measures.

All limits here are seconds of the quick day (speed.py): a slow machine has more time."""

import threading
import time
from dataclasses import dataclass

from .daemon import DaemonEnded
from .guest import GuestEnded, GuestError
from .progress import Progress
from .rest import Rest, have_given
from .sampler import Sampler
from .scenario import PhaseSpec
from .session import Session
from .speed import MACHINE

# The worker's event that ends each kind of work; "free" ends at once.
DONE_EVENT = {"load": "loaded", "read": "read"}


@dataclass
class Demand:
    guest: str
    command: str
    since: float
    done: threading.Event
    seconds: float | None = None


def run_phase(session: Session, sampler: Sampler, phase: PhaseSpec):
    sampler.phase = phase.name
    session.events.emit("phase_start", phase=phase.name, title=phase.title, fits=phase.fits, idle=phase.idle,
                        loaded=[guest for guest, commands in phase.work.items() if _has_load(commands)])
    began = MACHINE.quick_now()
    demands = _give_work(session, phase)
    why = _await(session, sampler, demands, phase)
    _tell_unsatisfied(session, phase, demands)
    MACHINE.sleep(phase.settle)
    session.events.emit("phase_end", phase=phase.name, why=why, quick_seconds=round(MACHINE.quick_now() - began, 1),
                        demands=[_described(demand) for demand in demands],
                        guests=_final_guests(session), overhead=session.overheads())


def _has_load(commands: list[str]) -> bool:
    return any(command.startswith("load") for command in commands)


def _give_work(session: Session, phase: PhaseSpec) -> list[Demand]:
    """What frees memory comes first, as roles change hands; the rest goes to all guests as close together as it can."""
    demands: list[Demand] = []
    freeing: list[tuple[str, str]] = []
    wanting: list[tuple[str, str]] = []
    for guest, commands in phase.work.items():
        for command in commands:
            (freeing if command == "free" else wanting).append((guest, command))
    for guest, command in freeing + wanting:
        worker_event = DONE_EVENT.get(command.split()[0])
        done = session.expect(guest, worker_event) if worker_event else None
        since = session.events.now()
        session.guests[guest].ask(command)
        session.events.emit("demand", phase=phase.name, guest=guest, command=command)
        if done:
            demands.append(Demand(guest, command, since, done))
    return demands


def _await(session: Session, sampler: Sampler, demands: list[Demand], phase: PhaseSpec) -> str:
    """Until all have what they asked for, and idle guests have given what was asked of them, which takes a slow balloon longer; in a
    phase that cannot give it to them, until sizes have come to rest; in both until nothing moves any more. Says which. The phase's own
    limit is for what moves for ever and comes to nothing."""
    memory = {name: guest.spec.memory for name, guest in session.guests.items()}
    rest, progress = Rest(memory, phase.rest), Progress(memory)
    deadline = MACHINE.quick_now() + phase.timeout
    while True:
        open_demands = [demand for demand in demands if demand.seconds is None]
        if not open_demands and phase.fits is not False and have_given(sampler.guests, memory, phase.idle):
            return "done"
        for demand in open_demands:
            if demand.done.is_set():
                demand.seconds = session.events.now() - demand.since
                session.events.emit("satisfied", phase=phase.name, guest=demand.guest, command=demand.command,
                                    seconds=round(demand.seconds, 1))
        _all_live(session, phase)
        now = MACHINE.quick_now()
        if phase.fits is False and rest.reached(sampler.guests, now):
            return "at rest"
        if progress.stalled(sampler.guests, now):
            return "stalled"
        if now > deadline:
            return "limit"
        MACHINE.check()
        time.sleep(0.2)


def _all_live(session: Session, phase: PhaseSpec):
    for guest in session.guests.values():
        if not guest.alive():
            raise GuestEnded(f"guest {guest.name}: its VMM ended with status {guest.process.returncode} in phase"
                             f" {phase.name}; it said: {guest.stderr_tail()}; console: {guest.console[-5:]}")
    if session.daemon and not session.daemon.alive():
        raise DaemonEnded(f"balloond ended with status {session.daemon.process.returncode} in phase {phase.name}:"
                          f" {session.daemon.log_tail()}")


def _tell_unsatisfied(session: Session, phase: PhaseSpec, demands: list[Demand]):
    for demand in demands:
        if demand.seconds is None:
            session.events.emit("unsatisfied", phase=phase.name, guest=demand.guest, command=demand.command,
                                seconds=round(session.events.now() - demand.since, 1))


def _described(demand: Demand) -> dict:
    return {"guest": demand.guest, "command": demand.command,
            "seconds": None if demand.seconds is None else round(demand.seconds, 2)}


def _final_guests(session: Session) -> dict[str, dict]:
    """Exact figures of all guests at a phase's end, all asked at the same time."""
    found: dict[str, dict] = {}

    def ask(name: str):
        guest = session.guests[name]
        try:
            found[name] = {"status": guest.status(), "check": guest.ask("check"), "starts": guest.ready_events[-1]["starts"],
                           "boots": len({event["boot"] for event in guest.ready_events})}
        except GuestError as error:
            found[name] = {"error": str(error)}

    threads = [threading.Thread(target=ask, args=(name,)) for name in session.guests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found

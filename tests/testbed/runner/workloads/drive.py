# SPDX-License-Identifier: Apache-2.0
"""Drives one part: a mix with one controller. Gives programs their amounts of work, and reports what they say and what the host did."""

import json
import threading
import time

from .. import host, vmm
from ..daemon import socket_in
from ..guest import Guest, GuestError
from ..qmp import Qmp
from ..session import Session
from ..speed import MACHINE
from .mix import Mix, Phase
from .settling import settle

CONTROLLERS = ("balloond", "none", "static")
SAMPLE_SECONDS = 5
MONITOR_PATIENCE = 60
HOST_COUNTERS = ("swap_in_pages", "swap_out_pages", "oom_kills")


class TooLong(Exception):
    """A phase that takes longer than its file allows, in seconds of the quick day."""


def boot(session: Session, mix: Mix) -> dict[str, Qmp]:
    """All guests with the same command lines, whatever the controller; their monitors."""
    sockets = {}
    for guest in mix.guests:
        name = guest.spec.name
        sockets[name] = session.run_dir / f"qmp-{name}"
        session.add_guest(guest.spec, debian_guest(session, name, qmp=sockets[name], link=str(socket_in(session.run_dir))))
    for booting in session.guests.values():
        session.events.emit("guest_up", guest=booting.name, seconds=round(booting.wait_ready(), 1))
    return {name: Qmp(path, MACHINE.wall(MONITOR_PATIENCE)) for name, path in sockets.items()}


def debian_guest(session: Session, name: str, **extras) -> vmm.Extras:
    """Boots Debian's root from an overlay of its own, past the host's page cache. The image behind it lies elsewhere."""
    overlay = session.images.scratch / f"root-{name}.qcow2"
    overlay.unlink(missing_ok=True)
    vmm.make_overlay(overlay, session.images.kernel.with_name("debian.raw"))
    return vmm.Extras(root=overlay, root_options="format=qcow2,cache=none,backing=any", cmdline="testbed.root=/dev/vda", **extras)


def run_phases(session: Session, mix: Mix, monitors: dict[str, Qmp]):
    with _Sampler(session) as sampler:
        session.events.emit("speed", when="after the boot", **MACHINE.followed())
        session.events.emit("settled", after="boot", **settle(session, monitors))
        for phase in mix.phases:
            sampler.phase = phase.name
            _run_phase(session, phase, monitors)
            session.events.emit("speed", when=f"after {phase.name}", **MACHINE.followed())


def _run_phase(session: Session, phase: Phase, monitors: dict[str, Qmp]):
    session.events.emit("phase_start", phase=phase.name, title=phase.title)
    before, started, quick_started = host.sample(), session.events.now(), MACHINE.quick_now()
    workers = [threading.Thread(target=_work, args=(session, phase, session.guests[name], commands), daemon=True)
               for name, commands in phase.work.items()]
    for worker in workers:
        worker.start()
    boots = {name: len(session.guests[name].ready_events) for name in phase.work}
    for name, worker in zip(phase.work, workers):
        while worker.is_alive():
            if lost := _lost(session.guests[name], boots[name]):
                session.events.emit("work", phase=phase.name, guest=name, command="all that was left", error=lost)
                break
            if MACHINE.quick_now() - quick_started > phase.timeout:
                raise TooLong(f"phase {phase.name} did not end within {phase.timeout:.0f} s of the quick day; factor now {MACHINE.factor:.1f}")
            worker.join(1)
    took = session.events.now() - started
    session.events.emit("settled", after=phase.name, **settle(session, monitors, phase.settle))
    after = host.sample()
    session.events.emit("phase_end", phase=phase.name, seconds=round(took, 2),
                        host={name: after[name] - before[name] for name in HOST_COUNTERS})


def _lost(guest: Guest, boots: int) -> str | None:
    """Why no answer will come."""
    if not guest.alive():
        return f"its VMM ended with status {guest.process.returncode}: {guest.stderr_tail()}"
    return "the guest, or its agent, started again" if len(guest.ready_events) != boots else None


def _work(session: Session, phase: Phase, guest: Guest, commands: list[str]):
    for command in commands:
        result = ask_work(guest, command)
        session.events.emit("work", phase=phase.name, guest=guest.name, command=command, **result)


def ask_work(guest: Guest, command: str) -> dict:
    """What guest/work.sh says, or {"error": ...}: a program that is killed for memory is a result, too."""
    try:
        # The phase's own limit is what ends a wait that is too long.
        answer = guest.ask(f"sh work {command}", timeout=10 * 3600)
        return json.loads(answer["output"])
    except GuestError as error:
        return {"error": str(error)}
    except ValueError:
        return {"error": f"status {answer['status']}, and it said: {answer['output'][-200:]}"}


class _Sampler:
    """Now and then: what host and VMMs have. Guests are not asked: their consoles are for work."""

    def __init__(self, session: Session):
        self._session, self.phase, self._stopping = session, "", threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()

    def _run(self):
        while not self._stopping.is_set():
            started = time.monotonic()
            guests = {name: host.process(guest.pid) for name, guest in self._session.guests.items()}
            self._session.events.emit("sample", phase=self.phase, host=host.sample(), guests=guests)
            self._stopping.wait(max(1.0, MACHINE.wall(SAMPLE_SECONDS) - (time.monotonic() - started)))


def final_counters(guest: Guest) -> dict:
    """Of the whole run: kills of programs for memory in the guest, and restarts of its agent."""
    if not guest.alive():
        return {"lost": True, "oom_kill": 0, "starts": 0}
    status = guest.status(timeout=MACHINE.wall(90))
    return {"lost": False, "oom_kill": status["vmstat"]["oom_kill"], "starts": guest.ready_events[-1]["starts"]}

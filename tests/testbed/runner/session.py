# SPDX-License-Identifier: Apache-2.0
"""A daemon (or none) and guests together on this host; cleaned up however the run ends."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

from . import host, libvirt, vmm
from .daemon import Daemon, Watch, socket_in
from .events import EventLog
from .guest import TROUBLE, Guest, GuestError, make_swap_disk
from .libvirt import DomainGuest, Libvirtd
from .mom import Mom
from .scenario import GuestSpec, Scenario, pace
from .scrapes import Scrapes
from .speed import MACHINE

HOST_CPU = 0
POWER_OFF_TIMEOUT = 120


class Session:
    def __init__(self, scenario: Scenario, images: vmm.Images, events: EventLog, with_daemon: bool, direct: bool, with_mom: bool = False):
        self.scenario, self.images, self.events, self.direct = scenario, images, events, direct
        self.run_dir = images.scratch / "run"
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.qmp_dir = self.run_dir / "qmp"
        self.qmp_dir.mkdir(exist_ok=True)
        self.libvirtd = Libvirtd(self.run_dir) if "libvirt" in scenario.vmms else None
        self.daemon = Daemon(self.run_dir, pace(scenario.policy, MACHINE.factor), self._backends()) if with_daemon else None
        self.mom = Mom(self.run_dir) if with_mom else None
        self.watch: Watch | None = None
        self.scrapes: Scrapes | None = None
        self.guests: dict[str, Guest] = {}
        self._boots: list[float] = []
        self._waiting: dict[tuple[str, str], threading.Event] = {}  # (guest, event of its worker) -> set when seen
        if not direct:
            os.sched_setaffinity(0, {HOST_CPU})

    def _backends(self) -> dict:
        """What the daemon's configuration says of hypervisors."""
        backends: dict = {}
        if "qemu" in self.scenario.vmms:
            backends["qmp"] = [{"directory": str(self.qmp_dir), "pattern": "*.qmp", "exclusive": True}]
        if self.libvirtd:
            backends["libvirt"] = [{"uri": libvirt.URI}]
        return backends

    def start_hypervisors(self):
        if self.libvirtd:
            self.libvirtd.start()

    def start_daemon(self):
        if self.daemon:
            self.daemon.start()
            self.watch = Watch(self.daemon)
            self.events.emit("note", text=f"balloond runs as process {self.daemon.pid}")
        if self.mom:
            self.mom.start()

    def start_scrapes(self):
        if self.daemon:
            self.scrapes = Scrapes(self.run_dir / "metrics").start()

    def add_guest(self, spec: GuestSpec, extras: vmm.Extras | None = None) -> Guest:
        extras = extras or vmm.Extras()
        run_by = self.scenario.vmm_of(spec)
        if run_by == "qemu" and not extras.qmp:
            extras.qmp = self.qmp_dir / f"{spec.name}.qmp"
        elif self.daemon and run_by == "balloon-vmm":
            extras.link = str(self.daemon.socket)
        swap = make_swap_disk(self.images, spec)
        told: dict[str, Any] = {"pin": not self.direct, "on_event": self._worker_said, "on_console": self._console}
        if run_by == "libvirt":
            guest: Guest = DomainGuest(spec, self.images, swap, extras, self.run_dir, **told)
        else:
            guest = Guest(spec, vmm.command(run_by, spec, self.images, swap, extras), self.run_dir, **told)
        self.guests[spec.name] = guest
        return guest.start()

    def boot_all(self):
        for spec in self.scenario.guests:
            # With or without a daemon: guests of runs that are compared have the same command lines. A VMM may call for it in vain.
            self.add_guest(spec, vmm.Extras(link=str(socket_in(self.run_dir))))
        for guest in self.guests.values():
            self._boots.append(guest.wait_ready())
            self.events.emit("guest_up", guest=guest.name, seconds=round(self._boots[-1], 1))

    def booted_together(self) -> float:
        """Seconds of the slowest of those that booted together."""
        return max(self._boots)

    def expect(self, guest: str, worker_event: str) -> threading.Event:
        """An event that is set when that guest's worker says so."""
        self._waiting[guest, worker_event] = threading.Event()
        return self._waiting[guest, worker_event]

    def power_off_all(self):
        for guest in self.guests.values():
            if guest.alive():
                guest.ask("poweroff")
        deadline = MACHINE.quick_now() + POWER_OFF_TIMEOUT
        for guest in self.guests.values():
            status = guest.wait_end(max(1.0, deadline - MACHINE.quick_now()))
            if status != 0:
                raise GuestError(f"guest {guest.name}: VMM status {status} after power-off; it said: {guest.stderr_tail()}")

    def close(self):
        """Ends what still runs, hard."""
        if self.scrapes:
            self.scrapes.stop()
        if self.watch:
            self.watch.stop()
        for guest in self.guests.values():
            guest.kill()
        if self.daemon and self.daemon.alive():
            self.daemon.process.send_signal(signal.SIGTERM)
            try:
                self.daemon.process.wait(20)
            except Exception:
                self.daemon.kill()
        if self.mom:
            self.mom.stop()
        if self.libvirtd:
            self.libvirtd.stop()

    def overheads(self) -> dict[str, dict | None]:
        return {name: host.vmm_overhead(guest.pid, guest.spec.memory) for name, guest in self.guests.items()}

    def _worker_said(self, guest: Guest, event: dict):
        if event["event"] == "ready" and len(guest.ready_events) > 1:
            self.events.emit("guest_restarted", guest=guest.name, starts=event["starts"], boot=event["boot"])
        elif event["event"] != "ready":
            details = {key: value for key, value in event.items() if key != "event"}
            self.events.emit("worker", guest=guest.name, what=event["event"], **details)
        waiting = self._waiting.get((guest.name, event["event"]))
        if waiting:
            waiting.set()

    def _console(self, guest: Guest, line: str):
        kind = "guest_trouble" if TROUBLE.search(line) else "guest_console"
        self.events.emit(kind, guest=guest.name, line=line[:300])


def default_images(direct: bool, directory: Path, scratch: Path) -> vmm.Images:
    return vmm.Images(kernel=directory / "vmlinuz", initramfs=directory / "initramfs.cpio", data=directory / "data.ext4",
                      scratch=scratch)

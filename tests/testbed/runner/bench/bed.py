# SPDX-License-Identifier: Apache-2.0
"""What a measurement needs: guests of one VMM, their disks and taps, gone again when the step ends."""

import threading
import time
from pathlib import Path

from .. import vmm
from ..guest import Guest, is_vcpu
from ..qmp import Qmp
from ..scenario import GuestSpec

MIB, GIB = 1 << 20, 1 << 30
SUBJECTS = (vmm.OURS, "qemu-pc", "qemu-microvm")
BOOT_TIMEOUT = 120
LOAD_TIMEOUT = 120
# A guest that was just booted still starts its kernel's threads.
SETTLE_SECONDS = 3


class StepError(Exception):
    pass


class Bed:
    def __init__(self, images: vmm.Images, tools: Path, run_dir: Path):
        self.images, self.tools, self.run_dir = images, tools, run_dir
        self.guests: list[Guest] = []
        self._heard: list[tuple[Guest, dict]] = []
        self._news = threading.Condition()
        run_dir.mkdir(parents=True, exist_ok=True)

    def start(self, subject: str, name: str, memory: int, extras: vmm.Extras, reporting: bool = False) -> Guest:
        spec = GuestSpec(name, memory, free_page_reporting=reporting)
        extras.data = False
        guest = Guest(spec, vmm.command(subject, spec, self.images, None, extras), self.run_dir, on_event=self._hear)
        self.guests.append(guest)
        return guest.start()

    def boot(self, subject: str, memory: int, extras: vmm.Extras | None = None, reporting: bool = False) -> Guest:
        guest = self.start(subject, "bench", memory, extras or vmm.Extras(), reporting)
        guest.wait_ready(BOOT_TIMEOUT)
        return guest

    def tools_disk(self) -> vmm.Disk:
        return vmm.Disk(self.tools, "tools", read_only=True)

    def socket(self, name: str) -> Path:
        path = self.run_dir / name
        path.unlink(missing_ok=True)
        return path

    def heard(self, guest: Guest, what: str) -> list[dict]:
        return [event for speaker, event in list(self._heard) if speaker is guest and event["event"] == what]

    def wait_heard(self, guest: Guest, what: str, timeout: float, count: int = 1):
        with self._news:
            if not self._news.wait_for(lambda: len(self.heard(guest, what)) >= count, timeout):
                raise StepError(f"the guest did not say '{what}' {count} times within {timeout:.0f} s; its console: {guest.console[-3:]}")

    def touch_and_free(self, guest: Guest, mib: int):
        self.touch(guest, mib)
        guest.ask("free")

    def touch(self, guest: Guest, mib: int):
        before = len(self.heard(guest, "loaded"))
        guest.ask(f"load {mib}M")
        self.wait_heard(guest, "loaded", LOAD_TIMEOUT, before + 1)

    def close(self):
        for guest in self.guests:
            guest.kill()
            guest.join_console()
            for stream in (guest.process.stdin, guest.process.stdout):
                stream.close()
        self.guests.clear()
        self._heard.clear()

    def _hear(self, guest: Guest, event: dict):
        with self._news:
            self._heard.append((guest, event))
            self._news.notify_all()


def shell(guest: Guest, command: str, timeout: float = 60) -> str:
    """What the command says in the guest; it must end with status 0."""
    answer = guest.ask(f"sh {command}", timeout)
    if answer["status"] != 0:
        raise StepError(f"'{command}' in the guest: status {answer['status']}: {answer['output'][-300:]}")
    return answer["output"]


def tool(command: str) -> str:
    return f"chroot /tools {command}"


def wait_until(what: str, condition, timeout: float, pause: float = 0.05):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise StepError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(pause)


def cpu_seconds(guest: Guest) -> tuple[float, float]:
    """CPU that the VMM has used so far: in all, and in its vCPU threads."""
    fields = Path(f"/proc/{guest.pid}/stat").read_text().rpartition(")")[2].split()
    total = (int(fields[11]) + int(fields[12])) / 100
    vcpus = 0.0
    for task in Path(f"/proc/{guest.pid}/task").iterdir():
        if is_vcpu((task / "comm").read_text().strip()):
            # The first number is the time on the CPU, in ns (Documentation/scheduler/sched-stats.rst).
            vcpus += int((task / "schedstat").read_text().split()[0]) / 1e9
    return total, vcpus


def connect_qmp(path: Path) -> Qmp:
    return Qmp(path, patience=60)

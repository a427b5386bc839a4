# SPDX-License-Identifier: Apache-2.0
"""How long a VMM takes until the guest's init runs, what it needs beside the guest's memory, and what an idle guest costs."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from .. import host, vmm
from ..daemon import Daemon
from ..guest import VCPU_CPU
from ..scenario import GuestSpec
from .bed import MIB, SETTLE_SECONDS, Bed, StepError, cpu_seconds

MARK = b'{"event":"init"}'
BOOT_MEMORY = 512 * MIB
BOOT_LIMIT = 90
RUNNING_GUESTS = 6
# Six guests, all of whose kernels have settled.
MANY_SETTLE_SECONDS = 15
IDLE_SECONDS = 30


def boot(bed: Bed, subject: str) -> dict:
    """Seconds from the VMM's exec to the guest's init, for the bzImage and for the ELF kernel in it (by PVH)."""
    return {"boot_bzimage_s": _boot(bed, subject, bed.images.kernel),
            "boot_vmlinux_s": _boot(bed, subject, bed.images.kernel.with_name("vmlinux"))}


def _boot(bed: Bed, subject: str, kernel: Path) -> float:
    extras = vmm.Extras(kernel=kernel, cmdline="testbed_mark=1", data=False, disks=(bed.tools_disk(),))
    argv = vmm.command(subject, GuestSpec("bench", BOOT_MEMORY), bed.images, None, extras)
    with open(bed.run_dir / "boot.stderr", "wb") as stderr:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, bufsize=0,
                                   preexec_fn=lambda: os.sched_setaffinity(0, {VCPU_CPU}))
    started = time.monotonic()  # Popen returns when the child has exec'd
    # Ends the read below, too.
    limit = threading.Timer(BOOT_LIMIT, process.send_signal, (signal.SIGKILL,))
    limit.start()
    try:
        said = b""
        while MARK not in said:
            data = process.stdout.read(4096)
            if not data:
                raise StepError(f"no sign of the guest's init within {BOOT_LIMIT} s; console: {said[-200:]!r};"
                                f" VMM: {(bed.run_dir / 'boot.stderr').read_text(errors='replace')[-200:]}")
            said += data
        return time.monotonic() - started
    finally:
        limit.cancel()
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def memory(bed: Bed, subject: str) -> dict:
    """With six guests running: private bytes outside the guest's memory and PSS, of each; ours with its link to balloond."""
    daemon = Daemon(bed.run_dir, {}) if subject in (vmm.OURS, vmm.OLD) else None
    try:
        link = str(daemon.start().socket) if daemon else None
        guests = [bed.start(subject, f"bench{number}", BOOT_MEMORY, vmm.Extras(link=link, disks=(bed.tools_disk(),)))
                  for number in range(RUNNING_GUESTS)]
        for guest in guests:
            guest.wait_ready(240)
        time.sleep(MANY_SETTLE_SECONDS)
        found = [host.vmm_overhead(guest.pid, BOOT_MEMORY) for guest in guests]
        if not all(overhead and overhead["ram_found"] for overhead in found):
            raise StepError(f"cannot tell guest memory from the VMM's own in smaps: {json.dumps(found)}")
        return {"private_mib": [overhead["private"] / MIB for overhead in found],
                "pss_mib": [overhead["pss"] / MIB for overhead in found]}
    finally:
        if daemon and daemon.alive():
            daemon.kill()


def idle(bed: Bed, subject: str) -> dict:
    """CPU that an idle guest costs, in percent of a core: the whole VMM process."""
    guest = bed.boot(subject, BOOT_MEMORY, vmm.Extras(disks=(bed.tools_disk(),)))
    time.sleep(SETTLE_SECONDS)
    before, started = cpu_seconds(guest)[0], time.monotonic()
    time.sleep(IDLE_SECONDS)
    return {"idle_percent": 100 * (cpu_seconds(guest)[0] - before) / (time.monotonic() - started)}

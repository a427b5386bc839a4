# SPDX-License-Identifier: Apache-2.0
"""Boots the outer host, streams what its command says, and tells a crash of the outer host from a failure of ours."""

import ctypes
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from .cache import Cache
from .errors import TestbedError
from .outer_image import OuterHost, make_run_disks
from .shell import find_tool
from .throttle import Throttle

TIMED_OUT, OUTER_LOST = 124, 125
BOOT_HUNG, SILENT = -1, -2  # no exit status
# QEMU's emulation of SVM can crash the outer kernel now and then; such a run says nothing about us and is repeated.
MAX_RESTARTS = 2
# What its console says then. A panic for lack of memory is not among them: that would be ours.
OUTER_CRASH = re.compile(r"BUG: |Oops|general protection fault|stack guard page|double fault|rcu: INFO: .*stall|"
                         r"Kernel panic - not syncing: (?!.*(Out of memory|deadlocked on memory))")
# The outer host boots in 3 to 15 s, on a machine as slow as may be (runner/speed.py: MAX_FACTOR) in 12 times that. One that is not
# there after this long hangs: its emulation does that now and then, too.
BOOT_SECONDS = 200
# Once it is there, it says every 10 s that it is alive (outer/testbed-init). A busy one may be late, but not by this much on the quick day.
SILENT_SECONDS = 120
# Nor does one come back whose console says this.
HANGS = re.compile(r"soft lockup - CPU#\d+ stuck for (?:[6-9]\d|\d{3,})s")
MIN_HOST_FREE_MIB = 1024  # beyond the outer host's memory, for QEMU's own and the page cache
PORTS = ("output", "events", "control", "files")


@dataclass
class RunResult:
    status: int
    restarts: int = 0
    crashes: list[str] = field(default_factory=list)


@dataclass
class Request:
    memory_mib: int = 8192
    timeout: float = 600  # seconds of the quick day (runner/speed.py)
    pace: Callable[[], float] = lambda: 1.0  # how many times as long as on the quick day everything takes, as the run tells
    # Time from the TSC, not from an emulated HPET: a quarter faster when busy, but such a host hangs now and then.
    fast_clock: bool = False
    devices: str = "unlimited"  # what its swap, and the disks that guests use, are slowed down to (runner/devices.py)
    console_log: Path | None = None
    files_to: Path | None = None  # where the files that were asked for are unpacked
    on_output: Callable[[bytes], None] = lambda data: _to_stdout(data)
    on_event: Callable[[str], None] = lambda line: None
    max_restarts: int = MAX_RESTARTS
    # What to boot instead of the one that was lost, for what is left to do; None: the same once more.
    on_restart: Callable[[str], OuterHost | None] = lambda reason: None


def _to_stdout(data: bytes):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def require_room(memory_mib: int, available_mib: int):
    """That this machine can hold a host of so much memory beside what else it does."""
    wanted = memory_mib + MIN_HOST_FREE_MIB
    if wanted > available_mib:
        raise TestbedError(f"too little memory: {available_mib} MiB are available here, an emulated host of {memory_mib} MiB needs {wanted} MiB")


def end_with_parent():
    """In the child: the kernel ends it when we die, however we die (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def run(cache: Cache, host: OuterHost, request: Request) -> RunResult:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what is left behind is removed
    result = RunResult(status=OUTER_LOST)
    while True:
        status, crash = _run_once(cache, host, request)
        if crash is None:
            result.status = status
            return result
        result.crashes.append(crash)
        print(f"testbed: THE OUTER HOST WAS LOST (its console: {crash}); no fault of the programs under test", file=sys.stderr)
        if result.restarts == request.max_restarts:
            print(f"testbed: giving up after {request.max_restarts} restarts", file=sys.stderr)
            return result
        result.restarts += 1
        print(f"testbed: booting another (restart {result.restarts} of {request.max_restarts})", file=sys.stderr, flush=True)
        host = request.on_restart(crash) or host


def _run_once(cache: Cache, host: OuterHost, request: Request) -> tuple[int, str | None]:
    """Exit status of the command, and what the console said if the outer host itself broke."""
    runs = cache.root / "runs"
    runs.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=runs))
    try:
        scratch, swap = make_run_disks(directory)
        console = request.console_log or runs / f"console-{os.getpid()}.log"
        console.unlink(missing_ok=True)
        pipes = {port: os.pipe() for port in PORTS}
        throttle = Throttle(request.devices, directory / "qmp.sock")
        qemu = subprocess.Popen(_command_line(host, request, scratch, swap, console, pipes, throttle), stdin=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, pass_fds=[write for _, write in pipes.values()],
                                preexec_fn=end_with_parent)
        for _, write in pipes.values():
            os.close(write)
        try:
            status = _follow(console, {port: read for port, (read, _) in pipes.items()}, request, throttle)
        finally:
            throttle.close()
            if qemu.poll() is None:
                qemu.kill()
            qemu.wait()
        return _verdict(status, console, qemu, request)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _command_line(host: OuterHost, request: Request, scratch: Path, swap: Path, console: Path, pipes, throttle: Throttle) -> list[str]:
    command = [find_tool("qemu-system-x86_64"), "-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "qemu64,+svm,+npt",
               "-smp", "2", "-m", str(request.memory_mib), "-M", "pc", "-display", "none", "-no-reboot", "-monitor", "none",
               "-nodefaults", "-kernel", str(host.kernel), "-initrd", str(host.initramfs),
               "-append", f"console=ttyS0 panic=-1 quiet no_timer_check{' tsc=reliable clocksource=tsc' if request.fast_clock else ''}"
               f"{' testbed_swap=zram' if request.devices == 'zram' else ''} rdinit=/init",
               "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
               "-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
    for number, port in enumerate(PORTS, 1):
        command += ["-chardev", f"file,id={port},path=/dev/fd/{pipes[port][1]}",
                    "-device", f"virtserialport,chardev={port},name={port},nr={number}"]
    # In this order they are /dev/vda to /dev/vdg in the outer host (outer/testbed-init).
    slow = throttle.drive_options
    for image, options in ((host.base, "readonly=on"), (host.payload, "readonly=on"), (scratch, "cache=unsafe" + slow("scratch")),
                           (host.images, "readonly=on"), (swap, "cache=unsafe" + slow("swap")), (host.data, "readonly=on" + slow("data")),
                           *([(host.debian, "readonly=on" + slow("debian"))] if host.debian else [])):
        command += ["-drive", f"file={image},format=raw,if=virtio,{options}"]
    return command + throttle.qemu_options()


def _follow(console: Path, reads: dict[str, int], request: Request, throttle: Throttle) -> int | None:
    """Passes on what the ports carry until QEMU ends or time is up; the command's exit status if it told one."""
    selector = selectors.DefaultSelector()
    for port, fd in reads.items():
        selector.register(fd, selectors.EVENT_READ, port)
    pending, archive, control = b"", b"", b""
    started = heard = time.monotonic()
    status, pace = None, 1.0
    while selector.get_map():
        running = time.monotonic() - started
        pace = max(pace, request.pace())
        if running > request.timeout * pace or (running > BOOT_SECONDS and not control):
            status = TIMED_OUT if control else BOOT_HUNG
            break
        if HANGS.search(_said(console)):
            status = TIMED_OUT
            break
        if control and time.monotonic() - heard > SILENT_SECONDS * pace:
            status = SILENT
            break
        for key, _ in selector.select(timeout=1):
            data = os.read(key.fd, 1 << 16)
            if not data:
                selector.unregister(key.fd)
            elif key.data == "output":
                request.on_output(data)
            elif key.data == "control":
                control, heard = control + data, time.monotonic()
            elif key.data == "files":
                archive += data
            else:
                *lines, pending = (pending + data).split(b"\n")
                for line in filter(None, lines):  # empty ones flush the others out (outer/testbed-init)
                    throttle.take(line.decode(errors="replace"))
                    request.on_event(line.decode(errors="replace"))
    for fd in reads.values():
        os.close(fd)
    if archive and request.files_to:
        request.files_to.mkdir(parents=True, exist_ok=True)
        subprocess.run([find_tool("tar"), "-x", "-C", request.files_to], input=archive)
    match = re.search(rb"exit (\d+)", control)
    return int(match.group(1)) if match else status


def _said(console: Path) -> str:
    return console.read_text(errors="replace") if console.exists() else ""


def _verdict(status: int | None, console: Path, qemu, request: Request) -> tuple[int, str | None]:
    if status == BOOT_HUNG:
        return OUTER_LOST, f"nothing: it did not come up within {BOOT_SECONDS} s"
    if status == SILENT:
        return OUTER_LOST, f"nothing: no sign of life for {SILENT_SECONDS} s, times the speed factor"
    if status is not None and status != TIMED_OUT:
        return status, None
    text = _said(console)
    crash = OUTER_CRASH.search(text)
    if crash:
        line = text[text.rfind("\n", 0, crash.start()) + 1:]
        return OUTER_LOST, line.splitlines()[0].strip()
    if status == TIMED_OUT:
        print(f"testbed: no end after {request.timeout:.0f} s, times the speed factor; console log: {console}", file=sys.stderr)
        return TIMED_OUT, None
    said = qemu.stderr.read().decode(errors="replace").strip()
    print(f"testbed: the outer host ended without the command's status; QEMU: {said or 'said nothing'};"
          f" console log: {console}", file=sys.stderr)
    return OUTER_LOST, None

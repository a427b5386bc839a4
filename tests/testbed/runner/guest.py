# SPDX-License-Identifier: Apache-2.0
"""One guest: its VMM process and the worker in it, spoken to over the serial console."""

import json
import os
import queue
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable

from . import vmm
from .scenario import GuestSpec
from .speed import MACHINE

# All processes that run vCPUs share one CPU: with more, the SVM emulation of the testbed's outer host breaks.
VCPU_CPU = 1
HELPER_CPU = 0
# Seconds of the quick day (speed.py), as all limits here. Six guests that start together take 25 to 45 s.
BOOT_TIMEOUT = 300
ANSWER_TIMEOUT = 90
TROUBLE = re.compile(r"Out of memory|oom-kill|invoked oom-killer|Kernel panic")


class GuestError(Exception):
    pass


class GuestEnded(GuestError):
    """Its VMM's process is gone: no speed of any machine explains that."""


class Guest:
    def __init__(self, spec: GuestSpec, argv: list[str], log_dir: Path, pin: bool = True,
                 on_event: Callable[["Guest", dict], None] = lambda guest, event: None,
                 on_console: Callable[["Guest", str], None] = lambda guest, line: None):
        self.spec, self.name = spec, spec.name
        self.argv, self._pin = argv, pin
        self._on_event, self._on_console = on_event, on_console
        self._stderr_path = log_dir / f"guest-{spec.name}.stderr"
        self._answers: queue.Queue[dict] = queue.Queue()
        self._asking = threading.Lock()
        self._ready = threading.Event()
        self.console: list[str] = []  # lines that are not the worker's
        self.ready_events: list[dict] = []
        self.last_status: dict | None = None
        self.started = time.monotonic()

    def start(self) -> "Guest":
        self.process = self.launch()
        self.started = time.monotonic()
        self._reader = threading.Thread(target=self._read_console, daemon=True)
        self._reader.start()
        return self

    def launch(self):
        """Its VMM's process; what the guest says comes by stdout, what it is told goes by stdin."""
        preexec = (lambda: os.sched_setaffinity(0, {VCPU_CPU})) if self._pin else None
        with open(self._stderr_path, "ab") as stderr:
            return subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, preexec_fn=preexec, bufsize=0)

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_ready(self, timeout: float = BOOT_TIMEOUT) -> float:
        """Seconds from start until the worker in the guest said that it is there."""
        deadline = MACHINE.quick_now() + timeout
        while not self._ready.wait(0.5):
            if not self.alive():
                raise GuestEnded(f"guest {self.name}: its VMM ended with status {self.process.returncode} before the guest"
                                 f" was up; it said: {self.stderr_tail()}; console: {self.console[-5:]}")
            if MACHINE.quick_now() > deadline:
                raise GuestError(f"guest {self.name}: not up after {timeout:.0f} s (waited for 'ready' on its console);"
                                 f" console: {self.console[-5:]}; VMM said: {self.stderr_tail()}")
        self._place_helpers(HELPER_CPU)
        return time.monotonic() - self.started

    def ask(self, command: str, timeout: float = ANSWER_TIMEOUT) -> dict:
        timeout = MACHINE.wall(timeout)
        with self._asking:
            while not self._answers.empty():
                self._answers.get_nowait()
            try:
                self.process.stdin.write(command.encode() + b"\n")
                answer = self._answers.get(timeout=timeout)
            except queue.Empty:
                raise (GuestError if self.alive() else GuestEnded)(
                    f"guest {self.name}: no answer to '{command}' in {timeout:.0f} s"
                    f" (VMM {'alive' if self.alive() else 'gone'}; console: {self.console[-3:]})")
            except OSError as error:
                raise GuestEnded(f"guest {self.name}: cannot send '{command}': {error}; VMM said: {self.stderr_tail()}")
        if "error" in answer:
            raise GuestError(f"guest {self.name}: '{command}' was refused: {answer['error']}")
        return answer

    def status(self, timeout: float = ANSWER_TIMEOUT) -> dict:
        self.last_status = self.ask("status", timeout)
        return self.last_status

    def wait_end(self, timeout: float = 60) -> int:
        timeout = MACHINE.wall(timeout)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GuestError(f"guest {self.name}: its VMM is still there {timeout:.0f} s after it should have ended")

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait()

    def join_console(self, timeout: float = 10):
        """After its end: waits until all that it said has been taken."""
        self._reader.join(timeout)

    def expect_reboot(self):
        """The next wait_ready waits for a new 'ready'."""
        self._ready.clear()
        # New vCPU threads inherit where the thread that makes them runs.
        self._place_helpers(VCPU_CPU)

    def _place_helpers(self, cpu: int):
        """Puts the VMM's threads other than vCPUs on that CPU: beside six busy vCPUs, each disk request and each step of
        the balloon would wait for its turn."""
        if not self._pin:
            return
        try:
            names = thread_names(self.pid)
            if any(is_vcpu(name) for name in names.values()):
                for thread, name in names.items():
                    if not is_vcpu(name):
                        os.sched_setaffinity(thread, {cpu})
            for worker in vhost_workers(self.pid):
                os.sched_setaffinity(worker, {cpu})
        except OSError:
            pass  # a thread ended while we looked

    def stderr_tail(self) -> str:
        try:
            return " / ".join(self._stderr_path.read_text(errors="replace").splitlines()[-4:]) or "nothing"
        except OSError:
            return "nothing"

    def _read_console(self):
        for raw in self.process.stdout:
            text = raw.decode(errors="replace").strip("\r\n \0")
            if text:
                self._take(text)

    def _take(self, text: str):
        # The worker's line may follow something that the firmware or kernel left on the same line.
        start = text.find("{")
        try:
            message = json.loads(text[start:]) if start >= 0 else None
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self.console.append(text)
            self._on_console(self, text)
        elif "event" in message:
            if message["event"] == "ready":
                self.ready_events.append(message)
                self._ready.set()
            self._on_event(self, message)
        else:
            self._answers.put(message)


def thread_names(pid: int) -> dict[int, str]:
    return {int(task.name): (task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()}


def is_vcpu(thread_name: str) -> bool:
    """balloon-vmm's "vcpu-0", and QEMU's "CPU 0/KVM" (-name ...,debug-threads=on)."""
    return thread_name.startswith("vcpu") or (thread_name.startswith("CPU ") and thread_name.endswith("/KVM"))


def vhost_workers(pid: int) -> list[int]:
    """The kernel's threads that serve this process' vhost devices (drivers/vhost/vhost.c names them "vhost-PID")."""
    found = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().strip() == f"vhost-{pid}":
                found.append(int(comm.parent.name))
        except OSError:
            continue  # it ended while we looked
    return found


def make_swap_disk(images: vmm.Images, spec: GuestSpec) -> Path | None:
    if spec.swap == 0:
        return None
    path = images.scratch / f"swap-{spec.name}.raw"
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(spec.swap)
    done = subprocess.run(["mkswap", str(path)], capture_output=True, text=True)
    if done.returncode != 0:
        raise GuestError(f"mkswap {path}: {done.stderr.strip()}")
    return path

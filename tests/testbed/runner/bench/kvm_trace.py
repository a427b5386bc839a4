# SPDX-License-Identifier: Apache-2.0
"""What KVM itself saw of a guest: when an interrupt was sent to it, and when it wrote to a device."""

import re
import subprocess
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")
EVENTS = ("kvm/kvm_msi_set_irq", "kvm/kvm_mmio", "kvm/kvm_pio")
BUFFER_KIB = 8192
LINE = re.compile(r"\s(\d+\.\d+): (kvm_msi_set_irq|kvm_mmio|kvm_pio): (.*)")
WRITE = re.compile(r"mmio write len \d+ gpa (0x[0-9a-f]+)|pio_write at (0x[0-9a-f]+)")
# The local and I/O interrupt controllers' registers: every interrupt and timer has some.
CONTROLLERS = range(0xFEC00000, 0xFEF00000)
# Ports below are the platform's: serial port, PCI configuration.
PCI_PORTS = 0x1000


class KvmTrace:
    """Records while it is entered (kernel tracepoints, times of CLOCK_MONOTONIC in seconds)."""

    def __enter__(self):
        if not (TRACING / "trace").exists():
            subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACING)], check=True)
        self._set("trace_clock", "mono")
        self._set("buffer_size_kb", str(BUFFER_KIB))
        self._set("trace", "")
        self._switch("1")
        return self

    def __exit__(self, *_):
        self._switch("0")

    def read(self) -> tuple[list[float], list[float]]:
        """Times of the interrupts that devices sent by message, and of the guest's writes to devices; each in order."""
        return parse((TRACING / "trace").read_text())

    def _switch(self, on: str):
        for event in EVENTS:
            self._set(f"events/{event}/enable", on)

    def _set(self, name: str, value: str):
        (TRACING / name).write_text(value)


def parse(text: str) -> tuple[list[float], list[float]]:
    sent, written = [], []
    for line in text.splitlines():
        if not (found := LINE.search(line)):
            continue
        time, event, what = float(found[1]), found[2], found[3]
        if event == "kvm_msi_set_irq":
            sent.append(time)
        elif (write := WRITE.match(what)) and _is_of_device(write):
            written.append(time)
    return sorted(sent), sorted(written)


def _is_of_device(write: re.Match) -> bool:
    return int(write[1], 16) not in CONTROLLERS if write[1] else int(write[2], 16) >= PCI_PORTS


def guest_time(sent: list[float], written: list[float], start: float, end: float) -> float | None:
    """Seconds from the first interrupt after `start` to the guest's first write to a device after it; None when they are not there by `end`."""
    interrupt = next((time for time in sent if start <= time <= end), None)
    answer = interrupt and next((time for time in written if interrupt <= time <= end), None)
    return answer - interrupt if answer else None

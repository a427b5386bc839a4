# SPDX-License-Identifier: Apache-2.0
"""Slows the emulated host's devices down to a class, and follows the slowdown that the run measures (QEMU's throttling group)."""

import json
import socket
from pathlib import Path
from typing import TextIO

from runner import devices
from runner.speed import QUICK_SLOWDOWN

GROUP = "device"
QMP_TIMEOUT = 60


class Throttle:
    def __init__(self, devices_name: str, socket_path: Path):
        self._class = devices.of_disks(devices_name)
        self._path = socket_path
        self._connection: socket.socket | None = None
        self._lines: TextIO | None = None
        self._drive: str | None = None

    def drive_options(self, drive: str) -> str:
        """For QEMU's -drive, until the run has measured its slowdown: that of a quick day."""
        if not self._class:
            return ""
        self._drive = drive  # what one of a group is told holds for all
        limits = self._class.limits(QUICK_SLOWDOWN)
        return (f",id={drive},throttling.iops-total={limits.requests},throttling.bps-read={limits.bytes_read}"
                f",throttling.bps-write={limits.bytes_written},throttling.group={GROUP}")

    def qemu_options(self) -> list[str]:
        return ["-qmp", f"unix:{self._path},server=on,wait=off"] if self._class else []

    def take(self, line: str):
        """An event of the runner: on a measured slowdown the limits change."""
        if not self._class or '"slowdown"' not in line:
            return
        try:
            event = json.loads(line)
        except ValueError:
            return
        if event.get("event") == "speed":
            self.set(event["slowdown"])

    def set(self, slowdown: float):
        limits = self._class.limits(slowdown)
        self._ask("block_set_io_throttle", device=self._drive, iops=limits.requests, iops_rd=0, iops_wr=0, bps=0, bps_rd=limits.bytes_read,
                  bps_wr=limits.bytes_written, group=GROUP)

    def close(self):
        if self._connection:
            self._connection.close()

    def _ask(self, command: str, **arguments):
        if not self._connection:
            self._connection = socket.socket(socket.AF_UNIX)
            self._connection.settimeout(QMP_TIMEOUT)
            self._connection.connect(str(self._path))
            self._lines = self._connection.makefile("r")
            self._lines.readline()  # QEMU's greeting
            self._ask("qmp_capabilities")
        self._connection.sendall((json.dumps({"execute": command, "arguments": arguments}) + "\n").encode())
        for line in self._lines:
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"QEMU refused {command}: {answer['error']}")
            if "return" in answer:
                return

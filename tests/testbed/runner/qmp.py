# SPDX-License-Identifier: Apache-2.0
"""A client of a VMM's QMP socket (balloon-vmm --monitor, qemu -qmp)."""

import json
import socket
import time
from pathlib import Path

from .speed import MACHINE

CONNECT_PAUSE = 0.2


class QmpError(Exception):
    pass


class Qmp:
    def __init__(self, path: Path, patience: float = 60):
        self.socket = socket.socket(socket.AF_UNIX)
        patience = MACHINE.wall(patience)
        self.socket.settimeout(patience)
        deadline = time.monotonic() + patience
        while self.socket.connect_ex(str(path)) != 0:
            if time.monotonic() > deadline:
                raise QmpError(f"no VMM listened at {path} within {patience:.0f} s")
            time.sleep(CONNECT_PAUSE)
        # For reading only: a text file for both drops what it has read ahead at every write, events among it.
        self.lines = self.socket.makefile("r")
        self.events: list[str] = []
        json.loads(self.lines.readline())
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments):
        self.socket.sendall((json.dumps({"execute": command, "arguments": arguments}) + "\n").encode())
        while True:
            line = self.lines.readline()
            if not line:
                raise QmpError(f"QMP {command}: the VMM hung up")
            answer = json.loads(line)
            if "event" in answer:
                self.events.append(answer["event"])
                continue
            if "return" not in answer:
                raise QmpError(f"QMP {command}: {answer.get('error')}")
            return answer["return"]

    def balloon_path(self) -> str:
        """Where the object tree has the balloon."""
        for folder in ("/machine/peripheral", "/machine/peripheral-anon"):
            for child in self("qom-list", path=folder):
                if child["type"].startswith("child<virtio-balloon"):
                    return f"{folder}/{child['name']}"
        raise QmpError("the VMM shows no balloon")

# SPDX-License-Identifier: Apache-2.0
"""Real QEMUs that emulate real Linux guests. No KVM is needed."""

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "testbed"))

from bed import MIB, Bed  # noqa: E402
from builder.cache import Cache, default_cache_dir  # noqa: E402
from builder.guest_image import build_agent, build_initramfs  # noqa: E402
from builder.kernel import fetch_kernel  # noqa: E402

UUID = "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31"
MEMORY = 512 * MIB
BOOT_PATIENCE = 240


class Monitor:
    """Another client of a QEMU, on a socket of its own."""

    def __init__(self, path: Path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        deadline = time.monotonic() + 60
        while self.socket.connect_ex(str(path)) != 0:
            assert time.monotonic() < deadline, f"nobody listens at {path}"
            time.sleep(0.05)
        connected_at = time.monotonic()
        self.lines = self.socket.makefile("r")
        self.lines.readline()
        self.greeted_after = time.monotonic() - connected_at
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments):
        self.tell(command, **arguments)
        return self.answer()

    def tell(self, command: str, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments, "id": 1}).encode() + b"\n")

    def answer(self):
        while "id" not in (answer := json.loads(self.lines.readline())):
            pass
        assert "return" in answer, answer
        return answer["return"]

    def actual(self) -> int:
        return self("query-balloon")["actual"]

    def close(self):
        self.lines.close()
        self.socket.close()


class RealQemu:
    def __init__(self, path: Path, kernel: Path, initramfs: Path, name: str = "web", more: tuple = ()):
        self.console = tempfile.NamedTemporaryFile(prefix="console-")
        self.trace = tempfile.NamedTemporaryFile("r", prefix="trace-")
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-nodefaults", "-display", "none", "-name", f"{name},debug-threads=on",
             "-uuid", UUID, "-kernel", kernel, "-initrd", initramfs, "-append", "console=ttyS0 no_timer_check", "-serial", f"file:{self.console.name}",
             "-device", "virtio-balloon-pci,deflate-on-oom=on,free-page-reporting=on",
             "-qmp", f"unix:{path},server=on,wait=off", "-trace", "handle_qmp_command", "-D", self.trace.name, *more])

    def commands(self) -> list[dict]:
        """What it was told by QMP, whoever told it, by its own log."""
        return [json.loads(said) for said in re.findall(r" req: (\{.*\})$", Path(self.trace.name).read_text(), re.M)]

    def targets(self) -> list[int]:
        return [command["arguments"]["value"] for command in self.commands() if command["execute"] == "balloon"]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.console.close()
        self.trace.close()


class WithQemus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cache = Cache(default_cache_dir())
        with cache.locked():
            kernel = fetch_kernel(cache)
            cls.kernel, cls.initramfs = kernel.bzimage, build_initramfs(cache, kernel, build_agent(cache))

    def setUp(self):
        self.running = []
        self.addCleanup(lambda: [qemu.kill() for qemu in self.running])

    def qemu(self, bed: Bed, file: str = "web.qmp", **more) -> RealQemu:
        self.running.append(RealQemu(bed.sockets / file, self.kernel, self.initramfs, **more))
        return self.running[-1]

    def controlled(self, bed: Bed, name: str = "web"):
        bed.guest(name, lambda guest: guest["state"] == "controlled" and guest["stats"], "is controlled", BOOT_PATIENCE)

    def pin(self, bed: Bed, size: int, name: str = "web"):
        done = bed.ctl("set", name, f"{size // MIB}MiB", "--for", "10m")
        self.assertEqual(done.returncode, 0, done.stderr)
        bed.guest(name, lambda guest: guest["actual_bytes"] == size, f"has {size // MIB} MiB", BOOT_PATIENCE)

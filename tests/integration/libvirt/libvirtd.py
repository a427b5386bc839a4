# SPDX-License-Identifier: Apache-2.0
"""A real libvirtd of a user of its own, with real QEMUs that emulate Linux guests. No KVM, no system service is needed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2] / "testbed"), str(HERE.parents[1] / "qmp")]

from bed import MIB, PATIENCE  # noqa: E402
from builder.cache import Cache, default_cache_dir  # noqa: E402
from builder.guest_image import build_agent, build_initramfs  # noqa: E402
from builder.kernel import fetch_kernel  # noqa: E402

# libvirtd has directories of its own where it is not root's.
NOBODY = 65534
MEMORY = 256 * MIB

CONFIGURATION = """
stdio_handler = "file"    # no virtlogd
security_driver = "none"
seccomp_sandbox = 0
"""

DOMAIN = """
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>{memory}</memory>
  <currentMemory unit='KiB'>{current}</currentMemory><vcpu>1</vcpu>
  <metadata><balloond:guest xmlns:balloond='urn:balloond:guest'><balloond:label name='tier' value='batch'/></balloond:guest></metadata>
  <os><type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{directory}/kernel</kernel><initrd>{directory}/initramfs</initrd><cmdline>console=ttyS0 quiet no_timer_check</cmdline></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{directory}/{name}.raw'/><target dev='vda' bus='virtio'/></disk>
    <serial type='null'><target port='0'/></serial>
    <controller type='usb' model='none'/>
    {balloon}
  </devices>
  {more}
</domain>
"""


class Libvirtd:
    def __init__(self):
        self.user = NOBODY if os.geteuid() == 0 else os.geteuid()
        self.directory = Path(tempfile.mkdtemp(prefix="libvirt-"))
        self.directory.chmod(0o755)
        cache = Cache(default_cache_dir())
        with cache.locked():
            kernel = fetch_kernel(cache)
            shutil.copy(kernel.bzimage, self.directory / "kernel")
            shutil.copy(build_initramfs(cache, kernel, build_agent(cache)), self.directory / "initramfs")
        for name in ("kernel", "initramfs"):
            (self.directory / name).chmod(0o644)
        (self.directory / "config/libvirt").mkdir(parents=True)
        (self.directory / "config/libvirt/qemu.conf").write_text(CONFIGURATION)
        (self.directory / "run").mkdir(mode=0o700)
        for path in [self.directory, *self.directory.rglob("*")]:
            os.chown(path, self.user, -1)
        self.socket = self.directory / "run/libvirt/libvirt-sock"
        self.uri = f"qemu+unix:///session?socket={self.socket}"
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self):
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "XDG_RUNTIME_DIR": str(self.directory / "run"),
                       "XDG_CONFIG_HOME": str(self.directory / "config"), "XDG_CACHE_HOME": str(self.directory / "cache"),
                       # What it says to its QEMUs.
                       "LIBVIRT_LOG_FILTERS": "2:qemu.qemu_monitor", "LIBVIRT_LOG_OUTPUTS": "2:stderr"}
        user = {"user": self.user, "group": self.user, "extra_groups": []} if os.geteuid() == 0 else {}
        with open(self.directory / "log", "a") as log:
            self.process = subprocess.Popen(["/usr/sbin/libvirtd"], env=environment, stdout=log, stderr=log, **user)
        deadline = time.monotonic() + PATIENCE
        while self.virsh("version", check=False).returncode != 0:
            assert self.process.poll() is None and time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.2)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def remove(self):
        """Ends all: the domains first, which outlive their libvirtd."""
        self.process.send_signal(signal.SIGCONT)
        for pid in (self.directory / "run/libvirt/qemu/run").glob("*.pid"):
            if pid.stem != "driver" and pid.read_text().strip():
                try:
                    os.kill(int(pid.read_text()), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def virsh(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(["virsh", "--connect", self.uri, *arguments], capture_output=True, text=True, timeout=PATIENCE)
        if check and done.returncode != 0:
            raise AssertionError(f"virsh {' '.join(arguments)}: {done.stderr}")
        return done

    def define(self, name: str, number: int = 1, balloon: str = "<memballoon model='virtio' autodeflate='on' freePageReporting='on'/>",
               more: str = "", current: int = MEMORY):
        disk = self.directory / f"{name}.raw"
        disk.write_bytes(bytes(MIB))
        os.chown(disk, self.user, -1)
        xml = self.directory / f"{name}.xml"
        xml.write_text(DOMAIN.format(name=name, uuid=self.uuid(number), memory=MEMORY // 1024, current=current // 1024,
                                     directory=self.directory, balloon=balloon, more=more))
        self.virsh("define", str(xml))

    def run(self, name: str, number: int = 1, **how):
        self.define(name, number, **how)
        self.virsh("start", name)

    def targets(self) -> list[tuple[datetime, int]]:
        """When it told a QEMU to bring a balloon to which size, whoever asked it to."""
        said = re.findall(r'^(\S+ \S+)\+0000: .* msg=\{"execute":"balloon","arguments":\{"value":(\d+)\}',
                          (self.directory / "log").read_text(), re.M)
        return [(datetime.fromisoformat(at).replace(tzinfo=timezone.utc), int(size)) for at, size in said]

    def said_to_balloons(self) -> list[int | str]:
        """What it told its QEMUs' balloons, one after the other: a size, or "statistics", which it asks for."""
        said = re.findall(r'msg=\{"execute":(?:"balloon","arguments":\{"value":(\d+)\}|"qom-get",.*"property":"(guest-stats)")',
                          (self.directory / "log").read_text())
        return [int(size) if size else "statistics" for size, _ in said]

    @staticmethod
    def uuid(number: int) -> str:
        """Of this test's alone: a domain's process is found by it."""
        return f"6d1fda3c-3a57-4c55-{number:04d}-{os.getpid():012d}"

    def pid(self, name: str) -> int:
        """Of the domain's process; 0: there is none."""
        file = self.directory / f"run/libvirt/qemu/run/{name}.pid"
        return int(file.read_text() or 0) if file.exists() else 0

# SPDX-License-Identifier: Apache-2.0
"""libvirtd on this host, and guests that are its domains."""

import os
import re
import select
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from xml.sax.saxutils import escape

from . import vmm
from .guest import HELPER_CPU, VCPU_CPU, Guest, GuestError
from .scenario import GuestSpec
from .speed import MACHINE

URI = "qemu:///system"
PID_FILES = Path("/run/libvirt/qemu")
LOGS = Path("/var/log/libvirt/qemu")
# Seconds of the quick day: its first start asks QEMU what it can do.
START_TIMEOUT = 120


def virsh(*arguments: str) -> str:
    done = subprocess.run(["virsh", "--connect", URI, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise GuestError(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def set_domains(sizes: dict[str, int]):
    """As an administrator would: the balloons of running domains, all at once."""
    for name, size in sizes.items():
        virsh("setmem", name, f"{size >> 10}KiB", "--live")


class Libvirtd:
    def __init__(self, run_dir: Path):
        self.log = run_dir / "libvirtd.log"
        self.process: subprocess.Popen | None = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["libvirtd"], stdout=log, stderr=log, preexec_fn=lambda: os.sched_setaffinity(0, {HELPER_CPU}))
        deadline = MACHINE.quick_now() + START_TIMEOUT
        while True:
            try:
                return virsh("version")
            except GuestError as error:
                if self.process.poll() is not None or MACHINE.quick_now() > deadline:
                    said = self.log.read_text(errors="replace").splitlines()[-4:]
                    raise GuestError(f"libvirtd does not answer: {error}; it said: {' / '.join(said)}")
            time.sleep(0.5)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


class Domain:
    """A running domain as subprocess.Popen would have it: its QEMU is libvirtd's child, not ours."""

    def __init__(self, name: str, xml: str, run_dir: Path, console: Path):
        self.name = name
        self.returncode: int | None = None
        file = run_dir / f"{name}.xml"
        file.write_text(xml)
        virsh("create", str(file))
        self.pid = int((PID_FILES / f"{name}.pid").read_text())
        self._handle = os.pidfd_open(self.pid)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(console))
        self.stdin = connection.makefile("wb", buffering=0)
        self.stdout = connection.makefile("rb")
        connection.close()  # the two files keep it

    def poll(self) -> int | None:
        return self.wait(0) if self._ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired(self.name, timeout or 0)
        if self.returncode is None:
            self.returncode = self._status()
        return self.returncode

    def kill(self):
        signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def _ended(self, timeout: float | None) -> bool:
        return self.returncode is not None or bool(select.select([self._handle], [], [], timeout)[0])

    def _status(self) -> int:
        """Nobody but libvirtd is told the process's status: its log says why the domain ended."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            reasons = re.findall(r"shutting down, reason=(\w+)", (LOGS / f"{self.name}.log").read_text(errors="replace"))
            if reasons:
                return 0 if reasons[-1] == "shutdown" else 1
            time.sleep(0.1)
        return 1


class DomainGuest(Guest):
    """A guest that libvirt runs, with what balloon-vmm's and QEMU's have."""

    def __init__(self, spec: GuestSpec, images: vmm.Images, swap: Path | None, extras: vmm.Extras, run_dir: Path, **rest):
        super().__init__(spec, [], run_dir, **rest)
        self._run_dir, self._console = run_dir, run_dir / f"{spec.name}.console"
        self._xml = domain_xml(spec, images, swap, extras, self._console, self._pin)
        self._stderr_path = LOGS / f"{spec.name}.log"

    def launch(self):
        self._stderr_path.unlink(missing_ok=True)
        return Domain(self.name, self._xml, self._run_dir, self._console)


def domain_xml(spec: GuestSpec, images: vmm.Images, swap: Path | None, extras: vmm.Extras, console: Path, pin: bool) -> str:
    disks = "".join(disk_xml(disk, letter) for disk, letter in zip(vmm.disks(images, swap, extras), "abcdefgh"))
    pins = "".join(f"<vcpupin vcpu='{cpu}' cpuset='{VCPU_CPU}'/>" for cpu in range(spec.cpus)) + f"<emulatorpin cpuset='{VCPU_CPU}'/>"
    return f"""<domain type='kvm'>
  <name>{escape(spec.name)}</name><memory unit='b'>{spec.memory}</memory><vcpu>{spec.cpus}</vcpu>
  {f"<cputune>{pins}</cputune>" if pin else ""}
  <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{extras.kernel or images.kernel}</kernel>
    <initrd>{extras.initramfs or images.initramfs}</initrd><cmdline>{escape(f"{vmm.CMDLINE} {extras.cmdline}".strip())}</cmdline></os>
  <features><acpi/></features><cpu mode='host-passthrough' check='none'/>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {disks}
    <serial type='unix'><source mode='bind' path='{console}'/><target port='0'/></serial>
    <controller type='usb' model='none'/>
    <memballoon model='virtio' autodeflate='on' freePageReporting='{"on" if spec.free_page_reporting else "off"}'/>
  </devices>
</domain>
"""


def disk_xml(disk: vmm.Disk, letter: str) -> str:
    is_device = stat.S_ISBLK(os.stat(disk.image).st_mode) if disk.image.exists() else False
    kind, source = ("block", "dev") if is_device else ("file", "file")
    cache = " cache='none' io='io_uring'" if disk.direct else ""
    return (f"<disk type='{kind}' device='disk'><driver name='qemu' type='raw'{cache}/><source {source}='{disk.image}'/>"
            f"<target dev='vd{letter}' bus='virtio'/><serial>{disk.serial}</serial>{'<readonly/>' if disk.read_only else ''}</disk>")

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what a real QEMU answers, for the tests beside it.

Run with a kernel and an initramfs that loads virtio_balloon (the testbed's guest image has both):
record.py KERNEL INITRAMFS >qemu-VERSION.txt
Lines that start with > were sent, lines that start with < were received, lines that start with # say what the guest was
doing. The socket's lines are as they came.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BALLOON = "/machine/peripheral/balloon0"
BOOT_PATIENCE = 120
DISK = 64 << 20


class Recorder:
    def __init__(self, path: Path):
        self.socket = socket.socket(socket.AF_UNIX)
        while self.socket.connect_ex(str(path)) != 0:
            time.sleep(0.1)
        self.lines = self.socket.makefile("rb")
        self.last_id = 0
        self.receive()

    def receive(self) -> dict:
        line = self.lines.readline().decode().rstrip("\r\n")
        print("<", line)
        return json.loads(line) if line else {}

    def send(self, line: str):
        print(">", line)
        self.socket.sendall(line.encode() + b"\n")

    def ask(self, command: str, **arguments):
        self.last_id += 1
        words = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.send(json.dumps({"execute": command, "id": self.last_id} | ({"arguments": words} if words else {})))
        while "event" in (answer := self.receive()):
            pass
        return answer

    def property(self, name: str, path: str = BALLOON):
        return self.ask("qom-get", path=path, property=name)

    def wait_for_driver(self):
        deadline = time.monotonic() + BOOT_PATIENCE
        while self.property("guest-stats")["return"]["last-update"] == 0:
            if time.monotonic() > deadline:
                raise SystemExit("the guest's balloon driver did not come up")
            time.sleep(3)


def record(qmp: Recorder):
    print("# before negotiation")
    qmp.ask("query-status")
    qmp.ask("qmp_capabilities")
    print("# before the guest's driver is up")
    for command in ("query-name", "query-uuid", "query-memory-size-summary", "query-status", "query-migrate", "query-balloon"):
        qmp.ask(command)
    for folder in ("peripheral", "peripheral-anon", "unattached"):
        qmp.ask("qom-list", path=f"/machine/{folder}")
    qmp.property("guest-stats-polling-interval")
    qmp.ask("x-query-virtio-status", path=f"{BALLOON}/virtio-backend")
    qmp.ask("qom-set", path=BALLOON, property="guest-stats-polling-interval", value=1)
    qmp.wait_for_driver()
    print("# driver up")
    time.sleep(2)
    qmp.property("guest-stats")
    qmp.property("guest-stats-polling-interval")
    qmp.ask("x-query-virtio-status", path=f"{BALLOON}/virtio-backend")
    qmp.ask("query-blockstats")
    print("# target 300 MiB")
    qmp.ask("balloon", value=300 << 20)
    time.sleep(3)
    qmp.ask("query-balloon")
    qmp.property("guest-stats")
    print("# mistakes")
    qmp.ask("balloon", value=0)
    qmp.ask("nonsense")
    qmp.property("guest-stats", path="/machine/peripheral/nobody")
    qmp.send('{"execute": }')
    qmp.receive()
    print("# paused")
    qmp.ask("stop")
    qmp.ask("query-status")
    qmp.ask("cont")
    print("# the guest boots again: its driver has the balloon's pages no more, and QEMU still says 300 MiB")
    qmp.ask("system_reset")
    time.sleep(1)
    qmp.ask("query-balloon")
    qmp.property("guest-stats")
    qmp.ask("x-query-virtio-status", path=f"{BALLOON}/virtio-backend")
    print("# migration")
    qmp.ask("migrate", uri="exec:cat >/dev/null")
    qmp.ask("query-migrate")
    while qmp.ask("query-migrate")["return"]["status"] != "completed":
        time.sleep(0.5)
    qmp.ask("query-status")
    qmp.ask("quit")
    while qmp.receive():
        pass


def record_without_balloon(qmp: Recorder):
    print("# another QEMU, without balloon, name and UUID, not started yet")
    for command in ("qmp_capabilities", "query-name", "query-uuid", "query-status", "query-balloon"):
        qmp.ask(command)
    for folder in ("peripheral", "peripheral-anon"):
        qmp.ask("qom-list", path=f"/machine/{folder}")


def with_qemu(path: Path, options: list, record_with):
    qemu = subprocess.Popen(["qemu-system-x86_64", "-accel", "tcg", "-nodefaults", "-display", "none",
                             "-qmp", f"unix:{path},server=on,wait=off", *options])
    try:
        record_with(Recorder(path))
    finally:
        qemu.kill()
        qemu.wait()


def main(kernel: str, initramfs: str):
    with tempfile.TemporaryDirectory() as directory:
        path, disk = Path(directory) / "qmp.sock", Path(directory) / "disk.raw"
        disk.write_bytes(bytes(DISK))
        with_qemu(path, ["-m", "512", "-name", "web,debug-threads=on", "-uuid", "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31",
                         "-kernel", kernel, "-initrd", initramfs, "-append", "console=ttyS0", "-serial", f"file:{directory}/console",
                         "-device", "virtio-balloon-pci,id=balloon0,deflate-on-oom=on,free-page-reporting=on",
                         "-drive", f"file={disk},if=virtio,format=raw"], record)
        with_qemu(path.with_name("other.sock"), ["-S"], record_without_balloon)


if __name__ == "__main__":
    main(*sys.argv[1:])

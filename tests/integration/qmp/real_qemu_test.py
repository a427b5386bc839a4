# SPDX-License-Identifier: Apache-2.0
"""A real QEMU with a real Linux guest, emulated: from its socket to its balloon."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "testbed"))

from bed import MIB, Bed  # noqa: E402
from errors_test import move  # noqa: E402
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
        self.lines = self.socket.makefile("r")
        self.lines.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments, "id": 1}).encode() + b"\n")
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
    """An emulated guest; no KVM is needed."""

    def __init__(self, path: Path, kernel: Path, initramfs: Path, name: str = "web", more: tuple = ()):
        self.console = tempfile.NamedTemporaryFile(prefix="console-")
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-nodefaults", "-display", "none", "-name", f"{name},debug-threads=on",
             "-uuid", UUID, "-kernel", kernel, "-initrd", initramfs, "-append", "console=ttyS0 no_timer_check", "-serial", f"file:{self.console.name}",
             "-device", "virtio-balloon-pci,deflate-on-oom=on,free-page-reporting=on",
             "-qmp", f"unix:{path},server=on,wait=off", *more])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.console.close()


class RealQemuTest(unittest.TestCase):
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

    def check_life(self, bed: Bed):
        qemu = self.qemu(bed)
        guest = bed.guest("web", lambda guest: guest["hypervisor"] == "qemu", "is found", BOOT_PATIENCE)
        self.assertEqual(guest["memory_bytes"], MEMORY)
        self.assertEqual(guest["labels"]["uuid"], UUID)
        self.assertEqual(guest["pid"], qemu.process.pid)
        bed.guest("web", lambda guest: guest["resident_bytes"] > 16 * MIB, "its process is measured", BOOT_PATIENCE)
        bed.guest("web", lambda guest: guest["stats"] and guest["state"] == "controlled", "is controlled", BOOT_PATIENCE)
        first = bed.guests()["web"]["stats"]["sampled_at"]
        stats = bed.guest("web", lambda guest: guest["stats"]["sampled_at"] != first, "statistics flow")["stats"]
        self.assertGreater(stats["total_bytes"], 400 * MIB)
        self.assertLess(stats["available_bytes"], MEMORY)
        self.assertGreater(stats["round_trip"], 0)

        for target in (300 * MIB, 400 * MIB):
            done = bed.ctl("set", "web", f"{target // MIB}MiB", "--for", "5m")
            self.assertEqual(done.returncode, 0, done.stderr)
            bed.guest("web", lambda guest, target=target: guest["actual_bytes"] == target, f"has {target // MIB} MiB", BOOT_PATIENCE)
        return qemu

    def test_an_exclusive_socket_from_its_file_to_the_guests_balloon_and_back(self):
        with Bed("[{directory: SOCKETS, pattern: '*.qmp', exclusive: true}]") as bed:
            qemu = self.check_life(bed)

            qemu.process.send_signal(signal.SIGKILL)
            qemu.process.wait()
            bed.until(lambda: "web" not in bed.guests(), "a killed QEMU's guest is gone")

            again = self.qemu(bed)
            guest = bed.guest("web", lambda guest: guest["pid"] == again.process.pid, "is back", BOOT_PATIENCE)
            self.assertEqual(guest["actual_bytes"], MEMORY)
            bed.guest("web", lambda guest: guest["stats"] and guest["state"] == "pinned" and guest["actual_bytes"] == 400 * MIB,
                      "follows the pin that it left", BOOT_PATIENCE)

    def test_a_shared_socket_is_managed_while_others_use_it(self):
        with Bed("[{path: SOCKETS/web.qmp}]") as bed:
            self.check_life(bed)

    def test_a_daemon_that_is_started_again_moves_no_balloon_by_itself(self):
        with Bed("[{directory: SOCKETS, exclusive: true}]") as bed:
            self.check_life(bed)  # it has 400 MiB now
            bed.stop()
            (bed.path / "policy.yaml").write_text("guests: [{name: web, min: 400MiB, max: 400MiB}]\n")
            bed.start()
            guest = bed.guest("web", lambda guest: guest["stats"], "is found as it was left", BOOT_PATIENCE)
            self.assertEqual((guest["actual_bytes"], guest["target_bytes"]), (400 * MIB, 400 * MIB))

    def test_a_person_at_the_monitor_has_the_balloon_for_as_long_as_policy_says(self):
        with Bed("[{path: SOCKETS/web.qmp, exclusive: true}]") as bed:
            second = bed.path / "second.qmp"
            self.qemu(bed, more=("-qmp", f"unix:{second},server=on,wait=off"))
            bed.guest("web", lambda guest: guest["state"] == "controlled" and guest["stats"], "is controlled", BOOT_PATIENCE)
            bed.settled("web", BOOT_PATIENCE)
            move(second, 400 * MIB)
            bed.guest("web", lambda guest: guest.get("contested"), "is contested")
            bed.guest("web", lambda guest: guest["actual_bytes"] == 400 * MIB, "has what the person gave it", BOOT_PATIENCE)
            bed.ctl("set", "web", "300MiB", "--for", "10m")
            bed.guest("web", lambda guest: guest["actual_bytes"] == 300 * MIB and not guest.get("contested"), "follows a pin again", BOOT_PATIENCE)

    def test_a_balloon_that_a_person_stops_while_ours_is_on_its_way_is_contested(self):
        with Bed("[{path: SOCKETS/web.qmp, exclusive: true}]") as bed:
            self.qemu(bed, more=("-qmp", f"unix:{bed.path}/second.qmp,server=on,wait=off"))
            bed.guest("web", lambda guest: guest["state"] == "controlled" and guest["stats"], "is controlled", BOOT_PATIENCE)
            person = Monitor(bed.path / "second.qmp")
            self.addCleanup(person.close)
            # Its balloon may be there before the person is: as often as it takes.
            low, high = 264 * MIB, 480 * MIB
            for _ in range(50):
                self.pin(bed, high)
                self.assertEqual(bed.ctl("set", "web", f"{low // MIB}MiB", "--for", "10m").returncode, 0)
                while (size := person.actual()) >= high:
                    time.sleep(0.001)
                person("balloon", value=size - 16 * MIB)
                if size > low + 32 * MIB:
                    break
            self.assertGreater(size, low + 32 * MIB, "the person was never in time")
            guest = bed.guest("web", lambda guest: guest.get("contested"), "is contested")
            self.assertGreater(int(guest["contested"]["to_bytes"]), low)
            bed.guest("web", lambda guest: guest["actual_bytes"] == size - 16 * MIB, "has what the person gave it", BOOT_PATIENCE)
            self.assertIn("somebody else moved its balloon from 264 MiB", bed.log())

    def pin(self, bed: Bed, size: int, name: str = "web"):
        done = bed.ctl("set", name, f"{size // MIB}MiB", "--for", "10m")
        self.assertEqual(done.returncode, 0, done.stderr)
        bed.guest(name, lambda guest: guest["actual_bytes"] == size, f"has {size // MIB} MiB", BOOT_PATIENCE)

    def test_a_guest_that_migrates_counts_at_both_ends_is_left_alone_meanwhile_and_controlled_after(self):
        with Bed("[{directory: SOCKETS, pattern: '*.qmp', exclusive: true}]") as bed:
            source = self.qemu(bed, more=("-qmp", f"unix:{bed.path}/source,server=on,wait=off"))
            bed.guest("web", lambda guest: guest["state"] == "controlled" and guest["stats"], "is controlled", BOOT_PATIENCE)
            self.pin(bed, 300 * MIB)
            bed.ctl("set", "web", "auto")
            self.qemu(bed, "target.qmp", more=("-incoming", f"unix:{bed.path}/migration"))
            guest = bed.guest("web.target", lambda guest: guest["obstacle"], "waits for its guest")
            self.assertEqual((guest["obstacle"], guest["actual_bytes"]), ("it does not run: inmigrate", MEMORY))

            person = Monitor(bed.path / "source")
            self.addCleanup(person.close)
            person("migrate-set-parameters", **{"max-bandwidth": 1 * MIB})
            person("migrate", uri=f"unix:{bed.path}/migration")
            bed.guest("web", lambda guest: guest["obstacle"] == "it is being migrated", "is left alone")
            before = person.actual()
            bed.ctl("set", "web", "350MiB", "--for", "10m")
            bed.ctl("set", "web.target", "350MiB", "--for", "10m")
            time.sleep(3)
            self.assertEqual(person.actual(), before, "no balloon is moved while its memory is on its way")
            guests = bed.guests()
            self.assertEqual({name: guest["obstacle"] for name, guest in guests.items()},
                             {"web": "it is being migrated", "web.target": "it is being migrated"})
            self.assertEqual((guests["web"]["actual_bytes"], guests["web.target"]["actual_bytes"]), (before, MEMORY), "both count")
            bed.ctl("set", "web", "auto")
            bed.ctl("set", "web.target", "auto")

            person("migrate-set-parameters", **{"max-bandwidth": 1024 * MIB})
            bed.guest("web", lambda guest: guest["obstacle"] == "it does not run: postmigrate", "has gone", BOOT_PATIENCE)
            bed.guest("web.target", lambda guest: not guest["obstacle"] and guest["stats"], "is controlled where it is now", BOOT_PATIENCE)
            self.pin(bed, 260 * MIB, "web.target")
            self.assertIn("web", bed.guests(), "what its memory still takes counts")
            source.kill()
            bed.until(lambda: list(bed.guests()) == ["web.target"], "the one that was left is gone")

    def test_a_guest_is_controlled_again_after_a_snapshot_and_left_alone_on_its_owners_socket_while_it_is_backed_up(self):
        with Bed("[{directory: SOCKETS, exclusive: true}]") as bed:
            disk, copy = bed.path / "disk", bed.path / "copy"
            for path in (disk, copy):
                subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"], check=True)
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 16M", disk], check=True)
            blocks = [option for name, path in (("disk", disk), ("copy", copy))
                      for option in ("-blockdev", f"driver=qcow2,node-name={name},file.driver=file,file.filename={path}")]
            self.qemu(bed, more=("-qmp", f"unix:{bed.path}/owners.qmp,server=on,wait=off", *blocks))
            bed.guest("web", lambda guest: guest["state"] == "controlled" and guest["stats"], "is controlled", BOOT_PATIENCE)
            self.pin(bed, 300 * MIB)

            owner = Monitor(bed.path / "owners.qmp")
            owner("snapshot-save", **{"job-id": "save", "tag": "one", "vmstate": "disk", "devices": ["disk"]})
            bed.until(lambda: [job["status"] for job in owner("query-jobs")] == ["concluded"], "the snapshot is there")
            self.assertNotIn("error", owner("query-jobs")[0])
            owner("job-dismiss", id="save")
            self.pin(bed, 320 * MIB)

            owner("blockdev-backup", device="disk", target="copy", sync="full", speed=64 << 10, **{"job-id": "backup"})
            self.pin(bed, 300 * MIB)
            owner.close()
            bed.write_configuration(f"[{{path: {bed.path}/owners.qmp}}]")
            bed.daemon.send_signal(signal.SIGHUP)
            bed.guest("web", lambda guest: guest["obstacle"] == "it is being backed up", "is left alone", BOOT_PATIENCE)

    def test_a_guest_whose_memory_is_locked_is_left_alone_with_the_reason(self):
        with Bed("[{directory: SOCKETS, pattern: '*.qmp', exclusive: true}]") as bed:
            self.qemu(bed, more=("-overcommit", "mem-lock=on"))
            guest = bed.guest("web", lambda guest: guest["obstacle"], "has a reason", BOOT_PATIENCE)
            self.assertEqual(guest["obstacle"], "its memory is locked")
            bed.guest("web", lambda guest: guest["resident_bytes"] >= MEMORY, "counts with all of it", BOOT_PATIENCE)
            bed.ctl("set", "web", "300MiB")
            time.sleep(2)
            self.assertEqual(bed.guests()["web"]["target_bytes"], MEMORY)

    def test_a_guest_in_huge_pages_of_the_host_is_left_alone_with_the_reason(self):
        overcommit = Path("/proc/sys/vm/nr_overcommit_hugepages")
        self.addCleanup(overcommit.write_text, overcommit.read_text())
        overcommit.write_text(str(MEMORY // (2 * MIB)))
        self.addCleanup(lambda: [qemu.kill() for qemu in self.running])  # its pages go back first
        with Bed("[{directory: SOCKETS, pattern: '*.qmp', exclusive: true}]") as bed:
            self.qemu(bed, more=("-object", "memory-backend-memfd,id=memory,size=512M,prealloc=on,hugetlb=on,hugetlbsize=2M",
                                 "-machine", "memory-backend=memory"))
            guest = bed.guest("web", lambda guest: guest["obstacle"], "has a reason", BOOT_PATIENCE)
            self.assertEqual(guest["obstacle"], "its memory is in huge pages of the host")
            bed.ctl("set", "web", "300MiB")
            time.sleep(2)
            self.assertEqual(bed.guests()["web"]["target_bytes"], MEMORY)

    def test_a_guest_that_reboots_counts_in_full_until_its_balloon_is_back(self):
        with Bed("[{path: SOCKETS/web.qmp, exclusive: true}]") as bed:
            monitor = bed.path / "monitor"
            self.qemu(bed, more=("-monitor", f"unix:{monitor},server=on,wait=off"))
            bed.guest("web", lambda guest: guest["state"] == "controlled" and guest["stats"], "is controlled", BOOT_PATIENCE)
            bed.ctl("set", "web", "300MiB", "--for", "10m")
            bed.guest("web", lambda guest: guest["actual_bytes"] == 300 * MIB, "has 300 MiB", BOOT_PATIENCE)
            subprocess.run(["/usr/bin/python3", "-c", "import socket,sys,time; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
                            "time.sleep(1); s.sendall(b'system_reset\\n'); time.sleep(1)", str(monitor)], check=True)
            bed.guest("web", lambda guest: guest["actual_bytes"] == MEMORY, "counts in full")
            bed.guest("web", lambda guest: guest["actual_bytes"] == 300 * MIB, "its next driver goes to its pin", BOOT_PATIENCE)


if __name__ == "__main__":
    unittest.main()

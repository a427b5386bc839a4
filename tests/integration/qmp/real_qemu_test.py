# SPDX-License-Identifier: Apache-2.0
"""A real QEMU with a real Linux guest, emulated: from its socket to its balloon."""

import contextlib
import os
import signal
import subprocess
import threading
import time
import unittest
from datetime import datetime
from pathlib import Path

from bed import MIB, Bed, stretched
from errors_test import move
from real_qemu import BOOT_PATIENCE, MEMORY, UUID, Monitor, WithQemus


@contextlib.contextmanager
def another_client(path: Path):
    """Uses the socket once a second. Gives how long it waited for each greeting, in seconds."""
    waits: list[float] = []
    over = threading.Event()

    def use():
        while not over.is_set():
            try:
                client = Monitor(path)
                waits.append(client.greeted_after)
                client("query-status")
                client.close()
            except OSError:
                waits.append(float("inf"))
            over.wait(1)
    user = threading.Thread(target=use)
    user.start()
    try:
        yield waits
    finally:
        over.set()
        user.join()


def sampled(guest: dict) -> float:
    """When its newest statistics are from, to the second; 0: it has none."""
    return datetime.fromisoformat(guest["stats"]["sampled_at"][:19] + "+00:00").timestamp() if guest["stats"] else 0.0


class RealQemuTest(WithQemus):
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

    def test_a_shared_socket_is_managed_while_others_use_it_each_second_and_are_greeted_within_one(self):
        with Bed("[{path: SOCKETS/web.qmp}]") as bed:
            with another_client(bed.sockets / "web.qmp") as waits:
                self.check_life(bed)
                bed.until(lambda: len(waits) > 20, "it was used for a while")
            self.assertLess(max(waits[1:]), stretched(1))  # by the first QEMU had just started

    def test_a_daemon_that_is_started_again_moves_no_balloon_by_itself(self):
        with Bed("[{directory: SOCKETS, exclusive: true}]") as bed:
            qemu = self.check_life(bed)  # it has 400 MiB now
            targets = qemu.targets()
            bed.stop()
            (bed.path / "policy.yaml").write_text("guests: [{name: web, min: 400MiB, max: 400MiB}]\n")
            bed.start()
            first = bed.guest("web", lambda guest: guest["stats"], "is found as it was left", BOOT_PATIENCE)["stats"]
            guest = bed.guest("web", lambda guest: guest["stats"] != first, "new statistics")
            self.assertEqual((guest["actual_bytes"], guest["target_bytes"]), (400 * MIB, 400 * MIB))
            self.assertEqual(qemu.targets(), targets)

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

    def test_a_guest_that_a_person_stops_is_left_alone_and_controlled_once_it_goes_on(self):
        with Bed("[{path: SOCKETS/web.qmp, exclusive: true}]") as bed:
            qemu = self.qemu(bed, more=("-qmp", f"unix:{bed.path}/second.qmp,server=on,wait=off"))
            self.controlled(bed)
            self.pin(bed, 300 * MIB)
            targets = qemu.targets()
            person = Monitor(bed.path / "second.qmp")
            self.addCleanup(person.close)
            person("stop")
            guest = bed.guest("web", lambda guest: guest["state"] == "paused", "is left alone")
            self.assertEqual(guest["obstacle"], "it does not run: paused")
            bed.ctl("set", "web", "320MiB", "--for", "10m")
            stopped = bed.rounds()[0]
            bed.until(lambda: bed.rounds()[0] > stopped + 10, "there was time to move it")
            self.assertEqual((bed.guests()["web"]["actual_bytes"], qemu.targets()), (300 * MIB, targets))
            person("cont")
            bed.guest("web", lambda guest: guest["actual_bytes"] == 320 * MIB and not guest["obstacle"], "follows its pin", BOOT_PATIENCE)
            self.assertEqual(qemu.targets(), [*targets, 320 * MIB])

    def test_statistics_that_somebody_else_switches_off_are_on_again_within_ten_seconds(self):
        with Bed("[{path: SOCKETS/web.qmp, exclusive: true}]") as bed:
            self.qemu(bed, more=("-qmp", f"unix:{bed.path}/second.qmp,server=on,wait=off"))
            self.controlled(bed)
            person = Monitor(bed.path / "second.qmp")
            self.addCleanup(person.close)
            anonymous = "/machine/peripheral-anon"
            device = next(entry["name"] for entry in person("qom-list", path=anonymous) if entry["type"] == "child<virtio-balloon-pci>")
            interval = {"path": f"{anonymous}/{device}", "property": "guest-stats-polling-interval"}
            self.assertEqual(person("qom-get", **interval), 1)
            person("qom-set", **interval, value=0)
            off_at = time.time()
            bed.until(lambda: person("qom-get", **interval) == 1, "statistics are polled for again")
            on_at = time.time()
            self.assertLess(on_at - off_at, stretched(11))  # it is looked at each 10 s
            bed.guest("web", lambda guest: sampled(guest) > on_at, "statistics go on")
            self.controlled(bed)

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

    def test_a_guest_that_is_put_into_a_snapshot_is_left_alone_with_the_reason_and_controlled_after(self):
        with Bed("[{directory: SOCKETS, exclusive: true}]") as bed:
            disk = bed.path / "disk"
            self.image(disk)
            os.truncate(disk, 2 << 30)  # what is served does not grow
            # A disk that is as slow as the test likes.
            server = subprocess.Popen(["qemu-nbd", "--persistent", "--format", "raw", "--socket", bed.path / "nbd", disk])
            self.addCleanup(server.wait)
            self.addCleanup(server.kill)
            bed.until((bed.path / "nbd").exists, "its disk is served")
            qemu = self.qemu(bed, more=("-qmp", f"unix:{bed.path}/owners.qmp,server=on,wait=off", "-blockdev",
                                        f"driver=qcow2,node-name=disk,file.driver=nbd,file.server.type=unix,file.server.path={bed.path}/nbd"))
            self.controlled(bed)
            self.pin(bed, 300 * MIB)
            owner = Monitor(bed.path / "owners.qmp")
            self.addCleanup(owner.close)
            server.send_signal(signal.SIGSTOP)
            owner.tell("snapshot-save", **{"job-id": "save", "tag": "one", "vmstate": "disk", "devices": ["disk"]})
            # QEMU answers nobody until it has saved all; its events come.
            bed.guest("web", lambda guest: guest["obstacle"] == "it does not run: paused", "is left alone")
            before = qemu.targets()
            bed.ctl("set", "web", "320MiB", "--for", "10m")
            guest = bed.guest("web", lambda guest: guest["state"] == "disconnected", "is known not to be reached")
            self.assertEqual(guest["actual_bytes"], 300 * MIB, "it counts as it was")
            server.send_signal(signal.SIGCONT)
            owner.answer()
            bed.until(lambda: [job["status"] for job in owner("query-jobs")] == ["concluded"], "the snapshot is there")
            self.assertNotIn("error", owner("query-jobs")[0])
            bed.guest("web", lambda guest: guest["actual_bytes"] == 320 * MIB and not guest["obstacle"], "is controlled again")
            self.assertEqual(qemu.targets(), [*before, 320 * MIB])

    def test_a_guest_that_is_backed_up_is_left_alone_on_its_owners_socket_and_controlled_after(self):
        with Bed("[{directory: SOCKETS, exclusive: true}]") as bed:
            disk, copy = bed.path / "disk", bed.path / "copy"
            for path in (disk, copy):
                self.image(path)
            blocks = [option for name, path in (("disk", disk), ("copy", copy))
                      for option in ("-blockdev", f"driver=qcow2,node-name={name},file.driver=file,file.filename={path}")]
            self.qemu(bed, more=("-qmp", f"unix:{bed.path}/owners.qmp,server=on,wait=off", *blocks))
            self.controlled(bed)
            owner = Monitor(bed.path / "owners.qmp")
            owner("blockdev-backup", device="disk", target="copy", sync="full", speed=64 << 10, **{"job-id": "backup"})
            self.pin(bed, 300 * MIB)
            owner.close()
            bed.write_configuration(f"[{{path: {bed.path}/owners.qmp}}]")
            bed.daemon.send_signal(signal.SIGHUP)
            bed.guest("web", lambda guest: guest["obstacle"] == "it is being backed up", "is left alone", BOOT_PATIENCE)
            bed.ctl("set", "web", "320MiB", "--for", "10m")
            owner = Monitor(bed.path / "owners.qmp")
            owner("block-job-set-speed", device="backup", speed=0)
            self.assertEqual(owner.actual(), 300 * MIB, "its balloon has not moved")
            owner.close()
            bed.guest("web", lambda guest: guest["actual_bytes"] == 320 * MIB and not guest["obstacle"], "is controlled again")

    def image(self, path: Path):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"], check=True)
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 16M", path], check=True)

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
            guest = bed.guest("web", lambda guest: guest["resident_bytes"] >= MEMORY, "counts with what it holds")
            self.assertEqual(guest["actual_bytes"], MEMORY)
            bed.ctl("set", "web", "300MiB")
            time.sleep(2)
            self.assertEqual(bed.guests()["web"]["target_bytes"], MEMORY)

    def test_a_guest_whose_sockets_file_goes_and_comes_back_while_it_lives_stays_one_guest_and_its_balloon_where_it_is(self):
        for exclusive in (True, False):
            with self.subTest(exclusive=exclusive), Bed(f"[{{directory: SOCKETS, exclusive: {str(exclusive).lower()}}}]") as bed:
                qemu = self.qemu(bed)
                self.controlled(bed)
                self.pin(bed, 300 * MIB)
                before = qemu.targets()
                file, elsewhere = bed.sockets / "web.qmp", bed.path / "elsewhere"
                file.rename(elsewhere)
                if exclusive:  # it is connected
                    gone_at = time.time()
                    bed.guest("web", lambda guest, at=gone_at: sampled(guest) > at + 12, "statistics go on without the file")
                    state = "pinned"
                else:
                    state = "disconnected"
                guest = bed.guest("web", lambda guest, state=state: guest["state"] == state, f"is {state}")
                self.assertEqual((list(bed.guests()), guest["actual_bytes"]), (["web"], 300 * MIB), "it counts once, as it was")
                back_at = time.time()
                elsewhere.rename(file)
                guest = bed.guest("web", lambda guest, at=back_at: guest["state"] == "pinned" and sampled(guest) > at, "has statistics again")
                self.assertEqual((list(bed.guests()), guest["actual_bytes"]), (["web"], 300 * MIB))
                self.assertEqual(qemu.targets(), before)
                qemu.kill()
                self.running.remove(qemu)

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

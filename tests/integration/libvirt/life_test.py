# SPDX-License-Identifier: Apache-2.0
"""Domains of a real libvirtd: from their start to their balloons, and what happens to both meanwhile."""

import os
import re
import signal
import subprocess
import time
import unittest

from libvirtd import MEMORY, Libvirtd  # before bed: it says where that is
from bed import MIB, Bed, stretched
from fake_qemu import FakeQemu

BOOT_PATIENCE = 240


class LibvirtTest(unittest.TestCase):
    def setUp(self):
        self.libvirtd = Libvirtd()
        self.addCleanup(self.libvirtd.remove)
        self.backends = f"{{libvirt: [{{uri: '{self.libvirtd.uri}'}}], qmp: [{{directory: SOCKETS, pattern: '*.qmp', exclusive: true}}]}}"

    def controlled(self, bed: Bed, name: str = "web") -> dict:
        return bed.guest(name, lambda guest: guest["state"] == "controlled" and guest["stats"], "is controlled", BOOT_PATIENCE)

    def set(self, bed: Bed, target: int, name: str = "web"):
        done = bed.ctl("set", name, f"{target // MIB}MiB", "--for", "10m")
        self.assertEqual(done.returncode, 0, done.stderr)
        bed.guest(name, lambda guest: guest["actual_bytes"] == target, f"has {target // MIB} MiB", BOOT_PATIENCE)

    def fresh(self, bed: Bed, name: str, seconds: float, oldest: float = 5):
        """New statistics of a neighbour come all the time."""
        end = time.monotonic() + seconds
        changed, newest, longest = time.monotonic(), None, 0.0
        while time.monotonic() < end:
            stats = bed.guests()[name]["stats"]["sampled_at"]
            if stats != newest:
                changed, newest = time.monotonic(), stats
            longest = max(longest, time.monotonic() - changed)
            time.sleep(0.2)
        self.assertLess(longest, stretched(oldest), f"{name}'s statistics grew old\n{bed.log()}")


class LifeTest(LibvirtTest):
    def test_a_domain_from_its_start_to_its_balloon_and_back(self):
        with Bed(self.backends) as bed:
            self.libvirtd.run("web")
            guest = bed.guest("web", lambda guest: guest["hypervisor"] == "libvirt", "is found")
            self.assertEqual(guest["memory_bytes"], MEMORY)
            self.assertEqual(guest["labels"]["uuid"], Libvirtd.uuid(1))
            self.assertEqual(guest["labels"]["tier"], "batch")
            self.assertEqual(guest["pid"], self.libvirtd.pid("web"))
            self.assertTrue(guest["capabilities"]["statistics"])
            guest = self.controlled(bed)
            self.assertGreater(guest["stats"]["total_bytes"], MEMORY // 2)
            self.assertLess(guest["stats"]["available_bytes"], MEMORY)
            self.assertGreater(guest["stats"]["round_trip"], 0)
            self.assertGreater(guest["stats"]["disk_read_bytes"], 0, "its kernel looked for partitions")
            bed.guest("web", lambda guest: guest["resident_bytes"] > 16 * MIB, "its process is measured")
            self.set(bed, 180 * MIB)
            self.set(bed, 220 * MIB)

            self.libvirtd.virsh("suspend", "web")
            bed.guest("web", lambda guest: guest["obstacle"] == "it does not run: paused", "is left alone")
            self.libvirtd.virsh("resume", "web")
            bed.guest("web", lambda guest: not guest["obstacle"], "is not left alone any more")

            self.libvirtd.virsh("reset", "web")
            bed.guest("web", lambda guest: guest["actual_bytes"] == MEMORY, "counts in full while it boots")
            bed.guest("web", lambda guest: guest["actual_bytes"] == 220 * MIB, "its next driver goes to its pin", BOOT_PATIENCE)

            self.libvirtd.virsh("destroy", "web")
            bed.until(lambda: "web" not in bed.guests(), "a destroyed domain is gone")
            self.libvirtd.virsh("start", "web")
            guest = bed.guest("web", lambda guest: guest["pid"] == self.libvirtd.pid("web"), "is back")
            self.assertEqual(guest["actual_bytes"], MEMORY)

    def test_a_domain_without_a_balloon_is_counted_and_left_alone(self):
        with Bed(self.backends) as bed:
            self.libvirtd.run("bare", balloon="<memballoon model='none'/>")
            guest = bed.guest("bare", lambda guest: guest["obstacle"], "has a reason")
            self.assertEqual((guest["obstacle"], guest["actual_bytes"]), ("it has no balloon device", MEMORY))
            self.assertFalse(guest["capabilities"]["statistics"])

    def test_libvirtd_is_killed_and_started_again_without_and_with_the_daemon_and_no_balloon_moves(self):
        with Bed(self.backends) as bed:
            self.libvirtd.run("web")
            self.controlled(bed)
            self.set(bed, 200 * MIB)
            self.libvirtd.kill()
            guest = bed.guest("web", lambda guest: guest["state"] == "disconnected", "is known not to be reached")
            self.assertEqual(guest["actual_bytes"], 200 * MIB, "it counts as it was")
            bed.until(lambda: "Connection refused" in bed.log() or "Failed to connect socket" in bed.log(), "it is said why")
            self.libvirtd.start()
            bed.guest("web", lambda guest: guest["state"] in ("controlled", "pinned"), "is controlled again", BOOT_PATIENCE)
            self.assertEqual(list(bed.guests()), ["web"])
            self.assertEqual(bed.guests()["web"]["actual_bytes"], 200 * MIB)
            self.set(bed, 220 * MIB)

            # And the daemon beside it.
            self.libvirtd.kill()
            bed.stop()
            (bed.path / "policy.yaml").write_text("guests: [{name: web, min: 220MiB, max: 220MiB}]\n")
            said = len(self.libvirtd.said_to_balloons())
            bed.start()
            self.libvirtd.start()
            self.controlled_once(bed, said)
            first = bed.guests()["web"]["stats"]
            bed.guest("web", lambda guest: guest["stats"] != first, "new statistics")
            self.assertEqual(set(self.libvirtd.said_to_balloons()[said:]), {"statistics"}, "its balloon has what it is to have")

    def test_a_setmem_by_hand_holds_for_as_long_as_policy_says(self):
        with Bed(self.backends) as bed:
            self.libvirtd.run("web")
            self.controlled(bed)
            bed.settled("web", BOOT_PATIENCE)
            self.libvirtd.virsh("setmem", "web", "240M", "--live")
            bed.guest("web", lambda guest: guest.get("contested"), "is contested", BOOT_PATIENCE)
            bed.guest("web", lambda guest: guest["actual_bytes"] == 240 * MIB, "has what the person gave it")
            time.sleep(5)
            self.assertEqual(bed.guests()["web"]["actual_bytes"], 240 * MIB)
            self.assertIn("contested", bed.ctl("list").stdout)
            self.set(bed, 200 * MIB)
            self.assertIsNone(bed.guests()["web"]["contested"])

    def test_a_setmem_in_the_middle_of_our_own_move_is_contested(self):
        with Bed(self.backends) as bed:
            self.libvirtd.run("web")
            self.controlled(bed)
            self.set(bed, 240 * MIB)
            done = bed.ctl("set", "web", "140MiB", "--for", "10m")
            self.assertEqual(done.returncode, 0, done.stderr)
            bed.until(lambda: self.current() < 240 * MIB, "our move has begun", BOOT_PATIENCE)
            self.libvirtd.virsh("setmem", "web", "200M", "--live")
            guest = bed.guest("web", lambda guest: guest.get("contested"), "is contested", BOOT_PATIENCE)
            self.assertEqual(int(guest["contested"]["from_bytes"]), 140 * MIB)
            bed.guest("web", lambda guest: guest["actual_bytes"] == 200 * MIB, "has what the person gave it", BOOT_PATIENCE)
            explained = bed.ctl("explain", "web").stdout
            self.assertRegex(explained, r"somebody else moved its balloon .* and holds it: it is left alone for \d+ s more, until \d{4}-")

    def test_a_domain_that_is_saved_and_restored_comes_back_with_what_it_had(self):
        with Bed(self.backends) as bed:
            self.libvirtd.run("web")
            self.controlled(bed)
            self.set(bed, 200 * MIB)
            saved = self.libvirtd.directory / "web.saved"
            self.in_the_middle(bed, self.libvirtd.pid("web"), "save", "web", str(saved))
            bed.until(lambda: "web" not in bed.guests(), "a saved domain holds nothing")
            said = len(self.libvirtd.said_to_balloons())
            self.in_the_middle(bed, None, "restore", str(saved))
            guest = bed.guest("web", lambda guest: guest["pid"] == self.libvirtd.pid("web") and guest["stats"], "is back", BOOT_PATIENCE)
            self.assertLessEqual(guest["actual_bytes"], 240 * MIB, "its balloon was saved, too")
            self.assertEqual(self.libvirtd.said_to_balloons()[said], 200 * MIB, "libvirt itself gives it what it had")
            self.controlled_once(bed, said + 1)
            self.set(bed, 220 * MIB)

    def in_the_middle(self, bed: Bed, pid: int | None, *command: str):
        """Has virsh do it; meanwhile the daemon is killed and started again, while the domain's process, the one that comes where
        there is none, holds still."""
        if pid:
            os.kill(pid, signal.SIGSTOP)
        done = subprocess.Popen(["virsh", "--connect", self.libvirtd.uri, *command])
        self.addCleanup(done.wait)
        if not pid:
            pid = bed.until(lambda: self.libvirtd.pid("web"), "its process is there")
            os.kill(pid, signal.SIGSTOP)
        bed.stop()
        bed.start()
        self.assertIsNone(done.poll(), f"virsh {command[0]} was over before the daemon was killed")
        os.kill(pid, signal.SIGCONT)
        self.assertEqual(done.wait(timeout=BOOT_PATIENCE), 0)

    def controlled_once(self, bed: Bed, said: int):
        """After a start of the daemon, when so much was said to balloons: none went below its minimum, none moved before statistics."""
        self.controlled(bed)
        self.assertEqual(list(bed.guests()), ["web"])
        asked, *more = self.libvirtd.said_to_balloons()[said:]
        self.assertEqual(asked, "statistics")
        self.assertGreaterEqual(min((size for size in more if size != "statistics"), default=MEMORY), MEMORY // 2)

    def current(self) -> int:
        """What libvirt says the domain's balloon has."""
        said = self.libvirtd.virsh("domstats", "web", "--balloon").stdout
        return int(re.search(r"balloon.current=(\d+)", said).group(1)) * 1024

    def test_what_a_domain_is_configured_to_have_is_its_minimum_where_policy_says_so(self):
        with Bed(self.backends) as bed:
            bed.write_policy("guests: [{name: web, limits: hypervisor}, {name: all, limits: hypervisor, min: 100MiB}]")
            self.libvirtd.run("web", 1, current=192 * MIB)
            self.libvirtd.run("all", 2)
            guest = self.controlled(bed)
            self.assertEqual((int(guest["min_bytes"]), guest["labels"]["limits/min"]), (192 * MIB, "192 MiB"))
            guest = bed.guest("all", lambda guest: guest["stats"], "is managed", BOOT_PATIENCE)
            self.assertEqual(int(guest["min_bytes"]), 100 * MIB, "libvirt grants it all its memory, so policy speaks")
            self.set(bed, 240 * MIB)
            bed.stop()
            bed.start()
            guest = bed.guest("web", lambda guest: guest["stats"], "is found again", BOOT_PATIENCE)
            self.assertEqual(int(guest["min_bytes"]), 192 * MIB, "whatever its balloon has")

    def test_a_guest_that_is_seen_by_its_qmp_socket_too_counts_once(self):
        with Bed(self.backends) as bed:
            bed.path.chmod(0o755)
            bed.sockets.chmod(0o777)
            self.libvirtd.run("web", more="<qemu:commandline><qemu:arg value='-qmp'/>"
                                          f"<qemu:arg value='unix:{bed.sockets}/web.qmp,server=on,wait=off'/></qemu:commandline>")
            self.controlled(bed)
            bed.until(lambda: "is already managed as guest web" in bed.log(), "the second is refused, and it is said why")
            self.assertEqual(list(bed.guests()), ["web"])
            # Whoever goes on seeing it takes it over.
            for backends, hypervisor in ((self.backends[self.backends.index("qmp"):], "qemu"),
                                         (self.backends[:self.backends.index(", qmp")] + "}", "libvirt")):
                bed.write_configuration("{" * backends.startswith("qmp") + backends)
                bed.daemon.send_signal(signal.SIGHUP)
                bed.until(lambda: self.once(bed, hypervisor), f"it is a guest of {hypervisor} only")
                self.set(bed, (200 if hypervisor == "qemu" else 220) * MIB)

    def once(self, bed: Bed, hypervisor: str) -> bool:
        guests = bed.guests()
        self.assertEqual(list(guests), ["web"])
        return guests["web"]["hypervisor"] == hypervisor and guests["web"]["state"] in ("controlled", "pinned")


class TroubleTest(LibvirtTest):
    def with_neighbour(self, bed: Bed):
        neighbour = FakeQemu(bed.sockets / "neighbour.qmp", "neighbour")
        self.addCleanup(neighbour.kill)
        bed.guest("neighbour", lambda guest: guest["stats"], "statistics")

    def test_a_libvirtd_that_hangs_is_named_and_neighbours_are_unharmed(self):
        with Bed(self.backends) as bed:
            self.libvirtd.run("web")
            self.controlled(bed)
            self.with_neighbour(bed)
            self.libvirtd.process.send_signal(signal.SIGSTOP)
            with bed.on_time():
                self.fresh(bed, "neighbour", 15)
                bed.until(lambda: "it did not answer within 5 s" in bed.log(), "it is named")
            self.assertIn("web", bed.guests(), "it still counts")
            self.libvirtd.process.send_signal(signal.SIGCONT)
            self.controlled(bed)

    def test_a_qemu_that_hangs_blinds_its_own_guest_only(self):
        with Bed(self.backends) as bed:
            self.libvirtd.run("web", 1)
            self.libvirtd.run("hung", 2)
            self.controlled(bed, "web")
            self.controlled(bed, "hung")
            stopped = self.libvirtd.pid("hung")
            os.kill(stopped, signal.SIGSTOP)
            self.addCleanup(lambda: os.kill(stopped, signal.SIGCONT))
            bed.guest("hung", lambda guest: guest["state"] == "stale", "is held")
            self.fresh(bed, "web", 15, oldest=8)  # one call is given up after 5 s; policy holds guests after 10
            self.set(bed, 200 * MIB, "web")
            os.kill(stopped, signal.SIGCONT)
            self.controlled(bed, "hung")

    def test_a_libvirt_that_is_not_there_is_named_and_found_when_it_comes(self):
        self.libvirtd.kill()
        self.libvirtd.socket.unlink(missing_ok=True)
        with Bed(self.backends) as bed:
            self.with_neighbour(bed)
            bed.until(lambda: f"Failed to connect socket to '{self.libvirtd.socket}'" in bed.log(), "it is said which")
            time.sleep(3)
            self.assertEqual(bed.log().count("Failed to connect socket"), 1, "a complaint is logged once")
            self.fresh(bed, "neighbour", 2)
            self.libvirtd.start()
            self.libvirtd.run("web")
            bed.guest("web", lambda guest: guest["hypervisor"] == "libvirt", "is found")


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""QMP sockets that somebody else holds for long, and those that go and come back while their QEMU lives."""

import socket
import time
import unittest

from bed import MIB, Bed, stretched
from errors_test import EXCLUSIVE, SHARED, WithFakes, age

HELD_SECONDS = 60


class SocketsTest(WithFakes):
    def test_a_socket_that_its_owner_keeps_for_a_minute_leaves_the_guest_blind_and_the_neighbour_unharmed(self):
        with Bed(SHARED) as bed:
            fake = self.fake(bed, "kept")
            self.fake(bed, "good")
            for name in ("kept", "good"):
                bed.guest(name, lambda guest: guest["stats"], "statistics")
            with socket.socket(socket.AF_UNIX) as owner:
                owner.connect(str(fake.path))
                owner.recv(4096)
                end = time.monotonic() + HELD_SECONDS
                states = []
                while time.monotonic() < end:
                    guests = bed.guests()
                    states.append(guests["kept"]["state"])
                    self.assertNotEqual(guests["good"]["state"], "stale", bed.log())
                    self.assertLess(age(guests["good"]), stretched(10), "the neighbour's statistics grew old")
                    time.sleep(1)
                self.assertIn("stale", states)
                self.assertIn(states[-1], ("stale", "blind"))
                self.assertIn("kept.qmp: another client has the socket", bed.log())
            bed.guest("kept", lambda guest: guest["state"] == "controlled", "is seen again")

    def test_a_qemu_whose_socket_goes_and_comes_back_while_it_lives_stays_one_guest_and_its_balloon_where_it_is(self):
        for backends in (EXCLUSIVE, SHARED):
            with self.subTest(backends), Bed(backends) as bed:
                fake = self.fake(bed, "web", mapped=True)
                bed.guest("web", lambda guest: guest["stats"], "statistics")
                bed.ctl("set", "web", "700MiB", "--for", "10m")
                bed.guest("web", lambda guest: guest["actual_bytes"] == 700 * MIB, "follows its pin")
                fake.events()
                fake.take_socket_away()
                guest = bed.guest("web", lambda guest: guest["state"] == "disconnected", "is known not to be reached")
                self.assertEqual((list(bed.guests()), guest["actual_bytes"]), (["web"], 700 * MIB), "it counts once, as it was")
                before = guest["stats"]
                fake.listen_anew()
                guest = bed.guest("web", lambda guest, before=before: guest["state"] == "pinned" and guest["stats"] not in (None, before),
                                  "has statistics again")
                self.assertEqual((list(bed.guests()), guest["actual_bytes"], guest["pid"]), (["web"], 700 * MIB, fake.process.pid))
                self.assertNotIn("target", [what for what, _ in fake.events()], "no balloon has moved")


if __name__ == "__main__":
    unittest.main()

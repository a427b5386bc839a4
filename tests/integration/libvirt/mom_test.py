# SPDX-License-Identifier: Apache-2.0
"""A real MOM and a real balloond that move the balloon of one domain: they do not fight."""

import re
import unittest
from datetime import datetime, timedelta, timezone

from libvirtd import Libvirtd  # before bed: it says where that is
from bed import MIB, PATIENCE, Bed, stretched
from momd import Momd

BOOT_PATIENCE = 240
MINUTE = timedelta(minutes=1)
PAGE = 4096
# What policy wants it to have. By 5 % each 5 s MOM does not bring it to all its memory in a minute, and so goes on.
OURS = 128 * MIB


class MomTest(unittest.TestCase):
    def setUp(self):
        self.libvirtd = Libvirtd()
        self.addCleanup(self.libvirtd.remove)

    def moves(self) -> tuple[list[datetime], list[datetime]]:
        """When MOM moved the balloon, and when balloond did, since MOM runs."""
        told = self.libvirtd.targets()[self.before:]
        sizes = self.mom.targets("web")
        return [at for at, size in told if size in sizes], [at for at, size in told if size not in sizes]

    def until_mom_moved_it(self, bed: Bed, times: int):
        try:
            bed.until(lambda: len(self.moves()[0]) >= times, f"MOM has moved it {times} times", BOOT_PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\nMOM, without which this is no test, said:\n{self.mom.said()}")

    def test_what_mom_moves_is_left_alone_or_taken_back_once_a_minute_as_policy_says(self):
        with Bed(f"{{libvirt: [{{uri: '{self.libvirtd.uri}'}}]}}") as bed:
            bed.write_policy(f"guests: [{{name: web, min: {OURS // MIB}MiB, max: {OURS // MIB}MiB}}]")
            self.libvirtd.run("web")
            bed.guest("web", lambda guest: guest["actual_bytes"] == OURS, "has what policy wants", BOOT_PATIENCE)
            self.before = len(self.libvirtd.targets())
            self.mom = Momd(self.libvirtd)
            self.addCleanup(self.mom.kill)
            self.until_mom_moved_it(bed, 1)
            guest = bed.guest("web", lambda guest: guest.get("contested") and int(guest["contested"]["to_bytes"]) in self.sizes_of_mom(),
                              "is contested, and MOM's size is found")
            self.assertEqual((guest["state"], int(guest["contested"]["from_bytes"])), ("contested", OURS))
            noticed = re.search(r"^(\S+) balloond warning guest web: somebody else moved its balloon from 128 MiB", bed.log(), re.M).group(1)
            after = datetime.fromisoformat(noticed).replace(tzinfo=timezone.utc) - self.moves()[0][0]
            self.assertLess(after.total_seconds(), stretched(10), "libvirt tells a size a second late, and the next statistics come then")
            self.assertIn(f"(on this host runs momd (process {self.mom.process.pid}))", bed.ctl("explain", "web").stdout)
            self.assertRegex(bed.ctl("host", "check").stdout, rf"others +momd \(process {self.mom.process.pid}\)\n +momd moves balloons")

            self.until_mom_moved_it(bed, 4)
            self.assertEqual(self.moves()[1], [], "balloond yields")
            bed.write_policy("contested: {then: override, for: 1m}")
            bed.until(lambda: self.moves()[1], "balloond takes it back", 60 + PATIENCE)
            by_mom, ours = self.moves()
            self.assertGreaterEqual(ours[0] - by_mom[0], MINUTE)
            self.until_mom_moved_it(bed, len(by_mom) + 2)
            guest = bed.guest("web", lambda guest: guest.get("contested"), "is contested again")
            self.assertGreaterEqual(datetime.fromisoformat(guest["contested"]["until"]) - ours[0], MINUTE)
            self.assertEqual(self.moves()[1], ours, "balloond has moved it once in all the time")

    def sizes_of_mom(self) -> set[int]:
        """What comes of its targets: balloons have whole pages."""
        return {-(-target // PAGE) * PAGE for target in self.mom.targets("web")}


if __name__ == "__main__":
    unittest.main()

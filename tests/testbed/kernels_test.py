# SPDX-License-Identifier: Apache-2.0
"""Which guest kernels are taken from where, and what is read out of a guest about its balloon driver."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from builder import guest_kernels as kernels  # noqa: E402
from builder.apt import source_lines  # noqa: E402
from builder.errors import TestbedError  # noqa: E402
from runner.cases import CASES, KERNELS_OF, NEEDS_DAEMON  # noqa: E402
from runner.guest_kernels import EXPECTED, ORDINARY, UNSET, features_in, sent_tags  # noqa: E402


class PackagesTest(unittest.TestCase):
    def test_the_newest_is_the_one_with_the_highest_number_not_the_last_by_letters(self):
        names = [f"linux-image-6.12.{number}+deb12-cloud-amd64" for number in (9, 117, 22)] + ["linux-image-6.12.200+deb12-amd64"]
        self.assertEqual(kernels.newest(names, kernels.SERIES["6.12"].pattern), "linux-image-6.12.117+deb12-cloud-amd64")

    def test_a_package_that_apt_does_not_know_is_one_clear_line(self):
        with self.assertRaisesRegex(TestbedError, "apt-get update"):
            kernels.newest(["linux-image-6.1.0-cloud-amd64"], kernels.SERIES["6.12"].pattern)

    def test_another_releases_sources_are_on_the_machines_own_mirrors(self):
        archives = [("Debian", "http://mirror/debian/"), ("Debian", "http://mirror/debian/"), ("Debian-Security", "http://mirror/security/"),
                    ("Debian Backports", "http://mirror/backports/")]
        lines = source_lines(archives, "bullseye")
        self.assertEqual([line.partition("] ")[2] for line in lines],
                         ["http://mirror/debian/ bullseye main", "http://mirror/security/ bullseye-security main"])

    def test_a_machine_without_a_debian_mirror_is_told_so(self):
        with self.assertRaisesRegex(TestbedError, "Debian mirror"):
            source_lines([("Other", "http://other/")], "bullseye")


class DriverTest(unittest.TestCase):
    def test_features_are_those_of_the_balloon_only(self):
        balloon = "".join("1" if bit in (1, 5, 32) else "0" for bit in range(64))
        self.assertEqual(features_in(f"0x0002 {'1' * 64} 0x0005 {balloon}"), {"statistics", "free-page-reporting", "version-1"})

    def test_a_tag_that_the_driver_does_not_send_is_none(self):
        self.assertEqual(sent_tags({"stat-free-memory": 0, "stat-oom-kills": UNSET}), {"stat-free-memory"})

    def test_every_kernel_has_its_case_and_its_expectation(self):
        self.assertEqual({series for wanted in KERNELS_OF.values() for series in wanted}, set(kernels.SERIES))
        self.assertEqual(set(EXPECTED) | {ORDINARY}, set(kernels.SERIES))
        self.assertLessEqual(set(KERNELS_OF), set(CASES) & NEEDS_DAEMON)


if __name__ == "__main__":
    unittest.main()

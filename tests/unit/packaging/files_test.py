# SPDX-License-Identifier: Apache-2.0
"""What is installed agrees with itself: versions, places that files name, and units that say what they may."""
import re
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
UNITS = ROOT / "config/systemd"


def text(path: str) -> str:
    return (ROOT / path).read_text()


class InstalledFilesTest(unittest.TestCase):
    def test_the_packages_changelog_begins_with_the_projects_version(self):
        version = re.search(r"project\(balloond VERSION (\S+)", text("CMakeLists.txt")).group(1)
        self.assertEqual(re.match(r"balloond \((\S+)\)", text("packaging/debian/changelog")).group(1), version)

    def test_shipped_files_name_their_schemas_where_they_are_installed(self):
        for name, schema in (("balloond.yaml", "balloond"), ("policy.yaml", "policy")):
            place = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text(f"config/{name}")).group(1)
            self.assertEqual(place, f"/usr/share/balloond/schema/{schema}.schema.json")
            self.assertTrue((ROOT / "config/schema" / Path(place).name).is_file())

    def test_every_conffile_is_one_that_is_installed(self):
        rules = text("packaging/CMakeLists.txt")
        for file in sorted((ROOT / "packaging/debian").glob("*/conffiles")):
            for line in file.read_text().split():
                self.assertIn(f"DESTINATION {Path(line).parent}", rules)
                self.assertIn(Path(line).name, rules)

    def test_every_user_and_group_of_a_unit_is_made_by_its_package(self):
        for unit, users in (("balloond.service", "balloond"), ("balloon-vmm@.service", "balloon-vmm")):
            made = set(re.findall(r"^[gu] (\S+)", text(f"packaging/sysusers/{users}.conf"), re.MULTILINE)) | {"root"}
            for line in re.findall(r"^(?:User|Group|SupplementaryGroups)=(.*)$", (UNITS / unit).read_text(), re.MULTILINE):
                self.assertLessEqual(set(line.split()), made)


class UnitsTest(unittest.TestCase):
    def exposure(self, unit: str) -> float:
        said = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNITS / unit)],
                              capture_output=True, text=True)
        return float(re.search(r"Overall exposure level for \S+: (\d+\.\d+)", said.stdout).group(1))

    def test_the_daemon_and_guests_have_few_privileges(self):
        self.assertLessEqual(self.exposure("balloond.service"), 2.0)
        self.assertLessEqual(self.exposure("balloon-vmm@.service"), 2.0)

    def test_a_guest_has_no_memory_limit_beside_its_balloon(self):
        self.assertNotRegex((UNITS / "balloon-vmm@.service").read_text(), r"(?m)^Memory(Max|High|SwapMax)=")


if __name__ == "__main__":
    unittest.main()

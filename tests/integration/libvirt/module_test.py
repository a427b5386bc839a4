# SPDX-License-Identifier: Apache-2.0
"""The backend for libvirt is a library of its own: what balloond says with it, and without it."""

import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "qmp"))

import bed  # noqa: E402

LIBVIRT = "{libvirt: [{uri: 'qemu+unix:///system?socket=/nowhere/libvirt-sock'}]}"
PACKAGE = "balloond: backends.libvirt needs the package balloond-libvirt, of balloond's own version"
INSTALLED = Path(bed.BALLOOND).parents[1] / "lib/balloond"


def needed(file: Path) -> list[str]:
    """The libraries that it is linked with."""
    said = subprocess.run(["readelf", "--dynamic", "--wide", file], capture_output=True, text=True, check=True).stdout
    return [line.split("[")[1].rstrip("]") for line in said.splitlines() if "(NEEDED)" in line]


class ModuleTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="module-")
        self.addCleanup(self.directory.cleanup)
        self.path = Path(self.directory.name)
        self.config = self.path / "balloond.yaml"
        self.config.write_text(f"socket: {{path: {self.path}/socket}}\nbackends: {LIBVIRT}\n")

    def alone(self) -> Path:
        """A balloond that is installed without the backend."""
        program = self.path / "bin/balloond"
        program.parent.mkdir()
        shutil.copy(bed.BALLOOND, program)
        return program

    def run_with(self, program: str | Path, *options: str) -> subprocess.CompletedProcess:
        return subprocess.run([program, *options, "--config", self.config], capture_output=True, text=True, timeout=bed.PATIENCE)

    def test_where_it_is_installed_a_libvirt_may_be_configured(self):
        done = self.run_with(bed.BALLOOND, "--check-config")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "ok\n", ""))

    def test_without_it_a_check_and_a_start_name_the_package(self):
        program = self.alone()
        for options in (["--check-config"], []):
            with self.subTest(options):
                done = self.run_with(program, *options)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertIn(PACKAGE, done.stderr)
                self.assertIn(f"{self.path}/lib/balloond/backend-libvirt.so is not there", done.stderr)

    def test_without_it_what_would_be_in_force_is_printed_all_the_same(self):
        done = self.run_with(self.alone(), "--print-effective-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("/nowhere/libvirt-sock", done.stdout)

    def test_without_it_a_configuration_with_a_libvirt_is_refused_and_the_old_one_stays_until_it_is_installed(self):
        program = self.alone()
        with unittest.mock.patch.object(bed, "BALLOOND", str(program)), bed.Bed("{}") as daemon:
            daemon.write_configuration(LIBVIRT)
            daemon.daemon.send_signal(signal.SIGHUP)
            daemon.until(lambda: "the new configuration is refused, the old one stays" in daemon.log(), "it is refused")
            self.assertIn("package balloond-libvirt", daemon.log())
            self.assertNotIn("libvirt qemu", daemon.log())
            shutil.copytree(INSTALLED, self.path / "lib/balloond")
            daemon.daemon.send_signal(signal.SIGHUP)
            daemon.until(lambda: "/nowhere/libvirt-sock" in daemon.log(), "libvirt is looked for")
            self.assertIn("the new configuration is in force", daemon.log())

    def test_balloond_itself_is_linked_with_nothing_of_libvirts(self):
        self.assertIn("libvirt.so.0", needed(INSTALLED / "backend-libvirt.so"))
        self.assertEqual([library for library in needed(Path(bed.BALLOOND)) if "virt" in library or "xml" in library], [])


if __name__ == "__main__":
    unittest.main()

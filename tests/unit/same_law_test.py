# SPDX-License-Identifier: Apache-2.0
"""scripts/same-law.sh fails at the first byte that differs. The programs here are stand-ins for balloon-sim."""
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Prints figures for sweep and compare, records with run, and says whether a recording replays.
STAND_IN = """#!/bin/sh
case "$1" in
  run) mkdir -p "$4" ;;
  replay) echo 'Result:      {replay}'; exit {status} ;;
  compare) printf 'scenario,cost\\ns1,{scenario}\\n' ;;
  sweep) [ "$3" = {seeds} ] && printf 'seed,cost\\n1,{sweep}\\n' ;;
esac
"""


class SameLawTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def law(self, name, scenario="10.5", sweep="20.5", replay="all 9 plans are identical", status=0):
        program = self.scratch / name
        program.write_text(STAND_IN.format(scenario=scenario, sweep=sweep, replay=replay, status=status, seeds=7))
        program.chmod(0o755)
        return str(program)

    def compare(self, before, after, *options):
        return subprocess.run([ROOT / "scripts/same-law.sh", "--seeds", "7", *options, before, after], text=True,
                              capture_output=True, check=False)

    def test_the_same_law_passes(self):
        done = self.compare(self.law("before"), self.law("after"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("all 9 plans are identical", done.stdout)
        self.assertIn("7 random hosts: the same", done.stdout)

    def test_one_other_byte_on_random_hosts_fails(self):
        done = self.compare(self.law("before"), self.law("after", sweep="20.6"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("DIFFERENT: 7 random hosts", done.stderr)

    def test_one_other_byte_in_a_scenario_fails(self):
        done = self.compare(self.law("before"), self.law("after", scenario="10.4"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("DIFFERENT: scenarios", done.stderr)

    def test_a_recording_with_another_plan_fails(self):
        done = self.compare(self.law("before"), self.law("after", replay="1 of 9 plans are different", status=3))
        self.assertEqual(done.returncode, 1)
        self.assertIn("1 of 9 plans are different", done.stderr)

    def test_a_law_that_is_neither_a_revision_nor_a_program_is_named(self):
        done = self.compare("no-such-law", self.law("after"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("'no-such-law' is no revision and no program", done.stderr)

    def test_a_program_that_fails_proves_nothing(self):
        broken = self.scratch / "broken"
        broken.write_text("#!/bin/sh\nexit 1\n")
        broken.chmod(0o755)
        self.assertNotEqual(self.compare(self.law("before"), str(broken)).returncode, 0)
        self.assertNotEqual(self.compare(str(broken), self.law("after")).returncode, 0)


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""The verdict over recorded runs (timelines/): a function of the recording alone."""

import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from report import record  # noqa: E402
from report.verdict import Outcome, judge  # noqa: E402
from timelines.derive import DERIVED, derived, file_of  # noqa: E402

MAX_BYTES = 100_000


class Timelines(unittest.TestCase):
    def verdict_of(self, name: str):
        return judge(record.read(file_of(name)))

    def failed(self, name: str) -> list[str]:
        return [check.name for check in self.verdict_of(name).checks if not check.passed]

    def test_a_quick_run_passes(self):
        self.assertEqual((self.verdict_of("quick").outcome, self.failed("quick")), (Outcome.PASSED, []))

    def test_the_same_run_at_a_third_of_the_speed_passes(self):
        slow, quick = record.read(file_of("three-times-slower")), record.read(file_of("quick"))
        self.assertAlmostEqual(slow.phases[-1].end, 3 * quick.phases[-1].end)
        self.assertEqual((self.verdict_of("three-times-slower").outcome, self.failed("three-times-slower")), (Outcome.PASSED, []))

    def test_the_demo_passes_beside_other_work_that_takes_three_quarters_of_the_machine(self):
        busy = record.read(file_of("busy"))
        self.assertGreater(min(speed["factor"] for speed in busy.speeds), 2)
        self.assertEqual((self.verdict_of("busy").outcome, self.failed("busy")), (Outcome.PASSED, []))

    def test_a_phase_in_which_nothing_moves_fails_by_its_loads(self):
        self.assertEqual(self.verdict_of("stalled").outcome, Outcome.FAILED)
        self.assertEqual(self.failed("stalled"), ["phase-2: loaded guests get what they ask for"])

    def test_a_guest_that_ended_fails_and_says_which(self):
        verdict = self.verdict_of("guest-dead")
        self.assertEqual(verdict.outcome, Outcome.FAILED)
        self.assertIn("guest C: its VMM ended with status 1", verdict.checks[0].found)

    def test_a_guest_that_ended_fails_on_the_slowest_machine_too(self):
        self.assertEqual(self.verdict_of("guest-dead-too-slow").outcome, Outcome.FAILED)

    def test_a_share_that_is_off_fails_alone(self):
        self.assertEqual(self.verdict_of("share-off").outcome, Outcome.FAILED)
        self.assertEqual(self.failed("share-off"), ["phase-3: shares follow weights within 10%"])

    def test_a_lost_host_says_nothing_of_us(self):
        self.assertEqual(self.verdict_of("host-lost").outcome, Outcome.HOST_LOST)

    def test_what_fails_on_a_machine_that_is_too_slow_is_not_judged(self):
        for name in ("too-slow", "stood-still", "gave-up"):
            verdict = self.verdict_of(name)
            self.assertEqual(verdict.outcome, Outcome.TOO_SLOW, name)
            self.assertTrue(verdict.reason)

    def test_what_passes_on_a_machine_that_is_too_slow_has_passed(self):
        self.assertEqual(self.verdict_of("too-slow-passed").outcome, Outcome.PASSED)

    def test_derived_recordings_are_what_their_transformations_make(self):
        for name in DERIVED:
            self.assertEqual(file_of(name).read_text(), derived(name), f"{name}: make it again with timelines/derive.py")

    def test_recordings_are_small(self):
        for path in (HERE / "timelines").glob("*.jsonl"):
            self.assertLess(path.stat().st_size, MAX_BYTES, path.name)

    def test_a_recording_in_small_gives_the_same_verdict(self):
        events = record.read(file_of("quick")).events
        again = record.thinned(events)
        self.assertLessEqual(len(again), len(events))


if __name__ == "__main__":
    unittest.main()

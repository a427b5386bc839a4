# SPDX-License-Identifier: Apache-2.0
"""The measure of a machine's speed, and the clock that counts seconds of the quick day."""

import sys
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runner import speed  # noqa: E402


class SpeedTest(unittest.TestCase):
    def setUp(self):
        self.now = 100.0
        self.machine = speed.Machine(clock=lambda: self.now)

    def runs_at(self, factor: float, pieces: int = speed.RECENT):
        for _ in range(pieces):
            self.machine.took(factor * speed.QUICK_PIECE_SECONDS)

    def passes(self, seconds: float) -> float:
        before = self.machine.quick_now()
        self.now += seconds
        return self.machine.quick_now() - before

    def test_a_machine_of_a_third_of_the_speed_has_limits_of_three_times_the_length(self):
        self.runs_at(3)
        self.assertAlmostEqual(self.machine.factor, 3)
        self.assertAlmostEqual(self.machine.wall(20), 60)
        self.assertAlmostEqual(self.passes(60), 20)

    def test_a_quicker_machine_has_no_shorter_limits(self):
        self.runs_at(0.1)
        self.assertAlmostEqual(self.machine.factor, 0.1)
        self.assertAlmostEqual(self.machine.wall(20), 20)
        self.assertAlmostEqual(self.passes(20), 20)

    def test_the_clock_keeps_what_it_counted_when_the_speed_changes(self):
        before = self.machine.quick_now()
        self.now += 10
        self.runs_at(2)
        self.now += 10
        self.assertAlmostEqual(self.machine.quick_now() - before, 15)

    def test_a_slow_moment_at_the_start_is_waited_for(self):
        pieces = [speed.QUICK_PIECE_SECONDS * factor for factor in (70.0, 20.0, 3.0)]
        waited: list[float] = []
        with mock.patch.object(speed, "measure", side_effect=pieces):
            self.machine.measure_at_start(sleep=waited.append)
        self.assertAlmostEqual(self.machine.factor, 3)
        self.assertEqual(waited, [speed.SECONDS_BETWEEN_TRIES] * 2)

    def test_a_machine_that_stays_slow_at_the_start_is_not_judged(self):
        with mock.patch.object(speed, "measure", return_value=speed.QUICK_PIECE_SECONDS * 70), self.assertRaisesRegex(speed.TooSlow, "70.0 at the start"):
            self.machine.measure_at_start(sleep=lambda _: None)

    def test_a_single_slow_piece_changes_nothing(self):
        self.runs_at(1)
        self.runs_at(30, pieces=1)
        self.assertAlmostEqual(self.machine.factor, 1)

    def test_guests_that_boot_slower_than_the_piece_says_count_and_quicker_ones_do_not(self):
        self.runs_at(2)
        self.machine.booted(6, 25.4 * 2)
        self.assertAlmostEqual(self.machine.factor, 2)
        self.machine.booted(6, 25.4 * 3)
        self.assertAlmostEqual(self.machine.factor, 3)
        self.runs_at(4)
        self.assertAlmostEqual(self.machine.factor, 6)
        self.machine.booted(6, 25.4)
        self.assertAlmostEqual(self.machine.factor, 4)

    def test_a_machine_that_stays_too_slow_is_told_so_and_one_that_recovers_is_not(self):
        self.runs_at(speed.MAX_FACTOR + 1)
        self.now += speed.SLOW_SECONDS - 1
        self.machine.check()
        self.now += 2
        with self.assertRaisesRegex(speed.TooSlow, "has been above"):
            self.machine.check()
        self.runs_at(1)
        self.machine.check()

    def test_a_measurement_in_a_process_of_its_own_gives_a_piece_a_factor_and_a_slowdown(self):
        found = self.machine.measure()
        self.assertGreater(found["piece"], 0)
        self.assertAlmostEqual(found["factor"], speed.factor_of(found["piece"]), delta=0.01)
        self.assertAlmostEqual(found["slowdown"], speed.QUICK_SLOWDOWN * speed.factor_of(found["piece"]), delta=0.1)

    def test_followed_it_tells_the_same_without_a_measurement(self):
        self.runs_at(2)
        found = self.machine.followed()
        self.assertEqual((found["factor"], found["slowdown"]), (2.0, round(2 * speed.QUICK_SLOWDOWN, 1)))

    def test_followed_it_measures_by_itself(self):
        self.machine.follow()
        self.addCleanup(self.machine.stop)
        for _ in range(200):
            if self.machine.factor != 1.0:
                break
            speed.time.sleep(0.1)
        self.assertNotEqual(self.machine.factor, 1.0)


if __name__ == "__main__":
    unittest.main()

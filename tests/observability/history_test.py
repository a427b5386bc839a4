# SPDX-License-Identifier: Apache-2.0
"""Pages of scrapes, read as series."""
import unittest

import history

RUN = """# scrape 1000 at 0 of the quick day
# HELP balloon_guest_need_bytes What it needs
balloon_guest_need_bytes{guest="A"} 5
balloon_moves_total{direction="grow"} 1
# scrape 1016 at 8 of the quick day, failed
# scrape 1030 at 15 of the quick day
balloon_guest_need_bytes{guest="A"} 7
balloon_guest_need_bytes{guest="B"} 2
# scrape 1075 at 38 of the quick day
balloon_guest_need_bytes{guest="B"} 3
"""


def need(of: history.History, guest: str) -> list[float | None]:
    return of.values["balloon_guest_need_bytes", (("guest", guest),)]


class HistoryTest(unittest.TestCase):
    def test_a_series_has_a_value_or_none_for_each_scrape(self):
        run = history.read(RUN.splitlines(True))
        self.assertEqual(run.times, [1000, 1016, 1030, 1075])
        self.assertEqual(need(run, "A"), [5, None, 7])
        self.assertEqual(need(run, "B"), [None, None, 2, 3])
        self.assertEqual(run.values["up", ()], [1, 0, 1, 1])

    def test_only_what_is_asked_for_is_kept(self):
        self.assertEqual({name for name, _ in history.read(RUN.splitlines(True), {"balloon_moves_total"}).values}, {"balloon_moves_total", "up"})

    def test_a_run_can_be_read_by_the_time_of_the_quick_day(self):
        self.assertEqual(history.read(RUN.splitlines(True), quick=True).times, [0, 8, 15, 38])

    def test_made_even_each_scrape_is_the_newest_there_was_when_it_was_due(self):
        even = history.read(RUN.splitlines(True)).evenly()
        self.assertEqual(even.times, [1000, 1015, 1030, 1045, 1060, 1075])
        self.assertEqual(need(even, "A"), [5, 5, 7, 7, 7, None])
        self.assertEqual(need(even, "B"), [None, None, 2, 2, 2, 3])


if __name__ == "__main__":
    unittest.main()

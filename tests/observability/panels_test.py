# SPDX-License-Identifier: Apache-2.0
"""Every panel of every dashboard, asked of a real Prometheus that has what two hosts exported over an hour and more."""
import math
import tempfile
import unittest
from pathlib import Path

import history
import panels
import queries
from prometheus import Prometheus, write_past, write_recorded

START = 1_760_400_000  # of whole minutes, as its scrapes are
# A guest of each host, of the same name.
CHOSEN = {"job": "balloond", "instance": "host-1", "guest": "web-1"}


class PanelsTest(unittest.TestCase):
    prometheus: Prometheus
    end: int

    @classmethod
    def setUpClass(cls):
        work = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        scenario = history.SCENARIOS / "healthy.yaml"
        hosts = {name: history.run(scenario, "--start", str(START), "--seed", seed) for name, seed in (("host-1", "1"), ("host-2", "2"))}
        cls.end = hosts["host-1"].times[-1]
        write_past(work, hosts)
        write_recorded(work, queries.RECORDING, START, cls.end, history.EVERY)
        cls.prometheus = cls.enterClassContext(Prometheus(work, history.EVERY))

    def answers(self):
        return panels.answers(self.prometheus, CHOSEN, START + 300, self.end, 60)

    def test_each_query_has_data_that_are_numbers(self):
        asked = 0
        for place, _, target, series in self.answers():
            asked += 1
            if panels.may_be_empty(place, target):
                continue
            with self.subTest(place, expr=target["expr"]):
                self.assertTrue(series, "no data")
                for one in series:
                    values = panels.values(one)
                    self.assertFalse([value for value in values if math.isinf(value)])
                    self.assertFalse(all(math.isnan(value) for value in values))
        self.assertGreater(asked, 100)

    def test_legends_name_labels_that_their_series_have(self):
        for place, _, target, series in self.answers():
            for label in panels.labels_of_legend(target):
                for one in series:
                    self.assertIn(label, one["metric"], f"{place}: {target['expr']}")

    def test_a_panel_of_one_host_shows_nothing_of_another_with_guests_of_the_same_names(self):
        for place, _, _, series in self.answers():
            if not place.startswith(("fleet", "reservations")):
                self.assertLessEqual({one["metric"].get("instance", "host-1") for one in series}, {"host-1"}, place)

    def test_the_fleet_has_a_line_for_each_host(self):
        seen = {one["metric"]["instance"] for place, _, _, series in self.answers() if place == "fleet: Hosts: state of memory" for one in series}
        self.assertEqual(seen, {"host-1", "host-2"})

    def test_figures_are_of_the_right_size(self):
        def newest(expr: str) -> float:
            found = self.prometheus.ask("query", query=expr, time=self.end)
            self.assertEqual(len(found), 1, expr)
            return float(found[0]["value"][1])
        host = '{instance="host-1"}'
        total = newest("balloon_host_memory_total_bytes" + host)
        self.assertEqual(total, 8 << 30)
        self.assertLess(newest(f"sum(balloon_guest_actual_bytes{host})"), total)
        self.assertLessEqual(newest("balloon_host_memory_budget_bytes" + host), total)
        self.assertAlmostEqual(newest("balloon:host_overcommit_ratio" + host), 10 / 8)
        for ratio in ("balloon_guests_satisfaction_ratio", "balloon_host_memory_pressure_some_ratio"):
            self.assertTrue(0 <= newest(ratio + host) <= 1)


if __name__ == "__main__":
    unittest.main()

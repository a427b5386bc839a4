# SPDX-License-Identifier: Apache-2.0
"""What the real daemon exported while real guests ran (testbed.small_scenario), as a real Prometheus has it: every panel, every alert.

BALLOON_RUN: the scenario's scrapes, one each 15 s (runner/scrapes.py)."""
import math
import os
import tempfile
import unittest
from pathlib import Path

import alerts
import history
import panels
import queries
from prometheus import Prometheus, write_past, write_recorded

RUN = Path(os.environ["BALLOON_RUN"])
GIB = 1 << 30
GUESTS = {"A", "B", "C", "D"}  # of 1 GiB each, on a host of 3.5 GiB (tests/scenarios/small.yaml)
CHOSEN = {"job": "balloond", "instance": "host", "guest": "A"}
# Nobody calls the daemon but one watcher, whose stream does not end; and what kernels before 6.4 (KSM's profit, of the host) and 6.12
# (calls of the OOM killer, of guests) do not tell is not there.
MAY_BE_EMPTY = {"controller: Calls by method", "controller: Calls that failed", "controller: Calls: 99 % below", "host: KSM: memory: B",
                "guest: Out of memory"}
# By a panel's unit, what can be on such a host. Shares of CPUs and of memory may be above 1, and what is done while a page is on its way
# is younger than the scrape, by its time limit at most.
POSSIBLE = {"bytes": (0, 64 * GIB), "percentunit": (0, 4), "s": (-10, 24 * 3600), "ops": (0, 10_000), "binBps": (0, 4 * GIB), "short": (0, 1e9)}


class RunTest(unittest.TestCase):
    prometheus: Prometheus
    start: int
    end: int

    @classmethod
    def setUpClass(cls):
        work = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        with RUN.open() as pages:
            run = history.read(pages)
        # From when all guests were there to when the first went.
        there = [at for number, at in enumerate(run.times) if all(
            len(values) > number and values[number] is not None
            for (name, labels), values in run.values.items() if name == "balloon_guest_available_bytes")]
        cls.start, cls.end = there[0], there[-1]
        write_past(work, {"host": run})
        write_recorded(work, queries.RECORDING, run.times[0], run.times[-1], history.EVERY)
        cls.prometheus = cls.enterClassContext(Prometheus(work, 2 * history.EVERY))

    def answers(self):
        return panels.answers(self.prometheus, {**CHOSEN, "__range": f"{self.end - self.start}s"}, self.start + 60, self.end, history.EVERY)

    def newest(self, expr: str) -> dict[str, float]:
        """By guest."""
        return {one["metric"].get("guest", ""): panels.values(one)[0] for one in self.prometheus.ask("query", query=expr, time=self.end)}

    def test_each_query_has_data_of_the_labels_that_its_legend_names(self):
        for place, _, target, series in self.answers():
            if panels.may_be_empty(place, target) or {place, f"{place}: {target['refId']}"} & MAY_BE_EMPTY:
                continue
            with self.subTest(place, expr=target["expr"]):
                self.assertTrue(series, "no data")
                for one in series:
                    self.assertLessEqual(set(panels.labels_of_legend(target)), set(one["metric"]))

    def test_values_are_possible_in_their_panels_unit(self):
        for place, panel, target, series in self.answers():
            if panel["type"] == "table":
                continue
            least, most = POSSIBLE[panel["fieldConfig"]["defaults"]["unit"]]
            for one in series:
                for value in panels.values(one):
                    if not math.isnan(value):
                        self.assertTrue(least <= value <= most, f"{place}: {one['metric']}: {value}")

    def test_the_figures_are_those_of_the_run(self):
        self.assertEqual(self.newest("balloon_guest_configured_bytes"), dict.fromkeys(GUESTS, GIB))
        total = self.newest("balloon_host_memory_total_bytes")[""]
        self.assertTrue(3.2 * GIB < total < 3.5 * GIB, total)
        sizes, needs = self.newest("balloon_guest_actual_bytes"), self.newest("balloon_guest_need_bytes")
        self.assertLess(sum(sizes.values()), total)
        self.assertGreater(sum(needs.values()), 2 * GIB, "all press")
        for direction in ("grow", "shrink"):
            self.assertGreater(self.newest(f'balloon_moves_total{{direction="{direction}"}}')[""], 0, direction)
        for guest in GUESTS:
            self.assertGreaterEqual(sizes[guest], self.newest("balloon_guest_floor_bytes")[guest] - GIB / 64, guest)

    def test_the_parts_of_the_hosts_memory_are_all_of_it(self):
        parts = {target["legendFormat"]: {at: float(value) for one in series for at, value in one["values"]}
                 for place, _, target, series in self.answers() if place == "host: Where the host's memory is"}
        del parts["reserve"]
        total = self.newest("balloon_host_memory_total_bytes")[""]
        for at in parts["free"]:
            self.assertAlmostEqual(sum(values[at] for values in parts.values()), total, delta=GIB / 1024, msg=f"{at}: {sorted(parts)}")

    def test_no_alert_fired(self):
        self.assertEqual(set(alerts.fired(alerts.of_run(RUN))) - set(alerts.OF_THE_MACHINE), set())


if __name__ == "__main__":
    unittest.main()

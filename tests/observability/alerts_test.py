# SPDX-License-Identifier: Apache-2.0
"""Each alert fires on what the daemon exported while its trouble was there, and on nothing else.

Series come from balloond's own control, reservations and metrics around a simulated host (metrics_history): nothing is written
by hand but `up`, which is Prometheus' own.
"""
import functools
import unittest

import history
import queries
from alerts import JOB, complaints_unless_quiet, fired, in_words, names, needed, promtool
from history import SCENARIOS

# Scenario, options, and every alert that must fire at the end: alert to guest, or to none.
TROUBLES = {
    "guests press for more than there is": ("pressed", [], {"BalloonGuestShrunkUnderPressure"}),
    "an operator pins a guest far below its use": (
        "healthy", ["--trouble", "pinned", "--guest", "mail"], {"BalloonGuestCriticalWhileMemoryIsFree", "BalloonGuestShrunkUnderPressure"}),
    "a balloon frees nothing": ("stuck", [], {"BalloonGuestMakesNoProgress"}),
    "guests send no statistics": ("silent", [], {"BalloonGuestWithoutStatistics"}),
    "somebody else moves a balloon": ("healthy", ["--trouble", "contested", "--guest", "mail"], {"BalloonGuestContested"}),
    "guarantees exceed the host, which swaps": ("infeasible", [], {"BalloonHostInfeasible", "BalloonHostSwapsIn", "BalloonGuestShrunkUnderPressure"}),
    "KSM costs more than it saves": ("healthy", ["--trouble", "ksm-costs"], {"BalloonKsmCostsMoreThanItSaves"}),
    "a reservation waits for what is not there": ("pressed", ["--trouble", "reserved", "--at", "1500"],
                                                  {"BalloonReservationAtRisk", "BalloonGuestShrunkUnderPressure"}),
    "reservations cannot be written down": ("healthy", ["--trouble", "reservations-unwritable"], {"BalloonReservationsNotKept"}),
    "the daemon is gone": ("healthy", ["--trouble", "gone"], {"BalloonDaemonGone"}),
    "the control loop stands still": ("healthy", ["--trouble", "stands-still"], {"BalloonLoopStandsStill"}),
    "the control loop is late": ("healthy", ["--trouble", "late"], {"BalloonLoopLate"}),
    "a configuration is refused": ("healthy", ["--trouble", "reload-refused"], {"BalloonReloadFailed"}),
    "the journal cannot be written": ("healthy", ["--trouble", "journal-unwritable"], {"BalloonJournalFailing"}),
}


@functools.cache
def exported(scenario: str, *options: str) -> history.History:
    return history.run(SCENARIOS / f"{scenario}.yaml", *options, only=set(needed()))


class AlertsTest(unittest.TestCase):
    def test_none_fires_on_a_healthy_host(self):
        healthy = exported("healthy")
        self.assertGreater(healthy.times[-1], 5900)
        self.assertEqual(complaints_unless_quiet(healthy), "")

    def test_none_fires_in_the_demo(self):
        demo = history.run(queries.ROOT / "tests/calibration/demo.yaml", only=set(needed()))
        self.assertGreater(demo.times[-1], 300)
        self.assertEqual(complaints_unless_quiet(demo), "")

    def test_what_is_not_quiet_is_noticed(self):
        self.assertIn("got:", complaints_unless_quiet(exported("silent")))
        self.assertEqual(fired(exported("silent")), ["BalloonGuestWithoutStatistics"])
        self.assertEqual(fired(exported("healthy")), [])

    def test_in_words_what_the_machine_has_to_answer_for_stands_apart(self):
        self.assertEqual(in_words(exported("healthy")), "none")
        self.assertEqual(in_words(exported("silent")), "BalloonGuestWithoutStatistics")
        self.assertEqual(in_words(exported("healthy", "--trouble", "late")),
                         "none; and BalloonLoopLate: this machine had too little CPU time for the daemon")

    def test_every_alert_has_a_trouble(self):
        self.assertEqual({alert for _, _, alerts in TROUBLES.values() for alert in alerts}, set(names()))


def case(scenario: str, options: list[str], alerts: set[str]):
    def test(self: AlertsTest):
        """Beside a healthy host with guests of the same names, which no alert may name."""
        troubled = exported(scenario, *options)
        end = f"{(len(troubled.times) - 1) * history.EVERY}s"
        series = history.input_series(troubled, JOB, "troubled") + history.input_series(exported("healthy"), JOB, "quiet")
        expected = {"expr": 'count by (alertname, instance) (count by (alertname, instance, guest) (ALERTS{alertstate="firing"}) > 0) > bool 0',
                    "eval_time": end,
                    "exp_samples": [{"labels": f'{{alertname="{alert}",instance="troubled"}}', "value": 1} for alert in sorted(alerts)]}
        self.assertEqual(promtool(series, [expected]), "")
    return test


for what, (scenario_, options_, alerts_) in TROUBLES.items():
    setattr(AlertsTest, "test_when_" + what.replace(" ", "_").replace(",", ""), case(scenario_, options_, alerts_))


class RecordingTest(unittest.TestCase):
    """What schedulers read, against what can be worked out from the exported figures themselves."""

    def value(self, of: history.History, name: str, **labels: str) -> float:
        found = of.last(name, **labels)
        self.assertEqual(len(found), 1, f"{name} {labels}")
        return next(iter(found.values()))

    def expect(self, of: history.History, expr: str, samples: dict[str, float]) -> None:
        end = f"{(len(of.times) - 1) * history.EVERY}s"
        self.assertEqual(promtool(history.input_series(of, JOB, "host-1"), [
            {"expr": expr, "eval_time": end, "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()]}]), "")

    def test_capacity_is_what_is_free_and_with_time_what_others_do_not_need(self):
        host = exported("healthy")
        now = self.value(host, "balloon_host_headroom_bytes")
        soon = {horizon: self.value(host, "balloon_host_reclaimable_bytes", horizon=horizon) for horizon in ("5s", "30s", "5m")}
        self.assertGreater(now, 0)
        self.expect(host, "balloon:host_capacity_bytes", {
            f'balloon:host_capacity_bytes{{job="{JOB}",instance="host-1",horizon="{horizon}"}}': value
            for horizon, value in [("now", now), *((horizon, now + more) for horizon, more in soon.items())]})

    def test_the_smallest_guest_whose_leaving_is_enough_should_leave(self):
        host = exported("infeasible")
        shortage = max(self.value(host, "balloon_host_memory_needed_bytes") - self.value(host, "balloon_host_memory_budget_bytes"),
                       self.value(host, "balloon_host_deficit_bytes"))
        self.assertGreater(shortage, 0)
        needs = {dict(labels)["guest"]: value for labels, value in host.last("balloon_guest_need_bytes").items()}
        floors = {dict(labels)["guest"]: value for labels, value in host.last("balloon_guest_floor_bytes").items()}
        frees = {guest: max(needs[guest], floors[guest]) for guest in needs}
        enough = {guest: value for guest, value in frees.items() if value >= shortage}
        leaves = min(enough, key=enough.__getitem__) if enough else max(frees, key=frees.__getitem__)
        self.expect(host, "balloon:guest_should_leave_bytes", {
            f'balloon:guest_should_leave_bytes{{job="{JOB}",instance="host-1",guest="{leaves}"}}': frees[leaves]})

    def test_nobody_should_leave_a_host_that_has_what_is_needed(self):
        self.expect(exported("healthy"), "balloon:guest_should_leave_bytes", {})
        self.expect(exported("healthy"), "balloon:host_shortage_bytes", {f'balloon:host_shortage_bytes{{job="{JOB}",instance="host-1"}}': 0})


if __name__ == "__main__":
    unittest.main()

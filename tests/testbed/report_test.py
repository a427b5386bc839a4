# SPDX-License-Identifier: Apache-2.0
"""The figures and checks of a run, on made-up timelines."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report import checks, figures  # noqa: E402
from report.answers import answers_of  # noqa: E402
from report.bar import bar, steps_in  # noqa: E402
from report.recording import check_recording  # noqa: E402
from report.timeline import Phase, Timeline  # noqa: E402

MIB = 1 << 20


def sample(t, guests, swap_in=0, phase="p"):
    host = {"total": 8192 * MIB, "swap_in_pages": swap_in, "swap_out_pages": 0, "oom_kills": 0, "psi_some_us": t * 1e5, "psi_full_us": 0}
    return {"t": t, "phase": phase, "host": host, "daemon": {"cpu": t / 100, "rss": 10 * MIB}, "guests": guests}


def guest(actual, weight=100, need=1600, low=256, high=2048):
    return {"alive": True, "actual": actual * MIB, "weight": weight, "need": need * MIB, "min": low * MIB, "max": high * MIB}


def phase(samples, **options):
    values = dict(name="p", title="p", fits=True, loaded=[], idle=[], start=0, end=100, samples=samples)
    return Phase(**dict(values, **options))


def final(available, present=0, swapped=0, requested=0):
    return {"status": {"meminfo": {"MemAvailable": available * MIB}, "vmstat": {"oom_kill": 0}, "load": {"requested": requested * MIB}},
            "check": {"present": present * MIB, "swapped": swapped * MIB}}


class Figures(unittest.TestCase):
    def sizes(self, *sizes):
        return figures.phase_figures(phase([sample(t, {"A": guest(size)}) for t, size in enumerate(sizes)]))

    def test_memory_moved_is_the_sum_of_all_steps_both_ways(self):
        self.assertEqual(self.sizes(2048, 1024, 2048)["moved_gib"], 2.0)

    def test_a_turn_is_a_reversal_and_noise_is_not(self):
        self.assertEqual(self.sizes(2000, 1000, 1500)["reversals"], 1)
        self.assertEqual(self.sizes(2000, 1000, 1010, 1000, 1005)["reversals"], 0)
        self.assertEqual(self.sizes(1000, 1500, 1000, 1500)["reversals"], 2)
        self.assertEqual(self.sizes(1000, 990, 980, 1100)["reversals"], 0)

    def test_pressure_is_the_stalled_share_of_the_time(self):
        self.assertEqual(self.sizes(1, 1, 1)["psi"]["some_ratio"], 0.1)

    def test_satisfaction_counts_only_the_satisfied(self):
        demands = [{"guest": g, "command": "load 1M", "seconds": s} for g, s in (("A", 3.0), ("B", 5.0), ("C", None))]
        found = figures.phase_figures(phase([sample(0, {})], demands=demands))["load_satisfaction"]
        self.assertEqual(found, {"demands": 3, "satisfied": 2, "p50_seconds": 4.0, "max_seconds": 5.0})


class Checks(unittest.TestCase):
    def found(self, **options):
        timeline = Timeline(memory={"A": 2048 * MIB}, first_host=sample(0, {})["host"], phases=[phase(**options)],
                            end=dict(sample(99, {}), guests_powered_off=1))
        return {check.name.split(": ")[-1].split()[0]: check.passed for check in checks.run_checks(timeline)}

    def test_swap_in_of_one_page_fails(self):
        self.assertTrue(self.found(samples=[sample(0, {}, 5), sample(1, {}, 5)])["host"])
        self.assertFalse(self.found(samples=[sample(0, {}, 5), sample(1, {}, 6)])["host"])

    def test_an_idle_guest_may_have_512_mib_beyond_what_it_uses(self):
        def idle(actual, available):
            return self.found(samples=[sample(0, {"A": guest(actual)})], idle=["A"], guests={"A": final(available)})["idle"]
        self.assertTrue(idle(700, 500))
        self.assertFalse(idle(700, 520))

    def test_a_load_must_be_resident_and_have_been_complete_once(self):
        def loaded(present, seconds):
            return self.found(samples=[sample(0, {"A": guest(2000)})], loaded=["A"],
                              guests={"A": final(100, present=present, requested=1536)},
                              demands=[{"guest": "A", "command": "load 1536M", "seconds": seconds}])["loaded"]
        self.assertTrue(loaded(1536, 20.0))
        self.assertFalse(loaded(1500, 20.0))
        self.assertFalse(loaded(1536, None))

    def test_shares_must_follow_weights(self):
        def shares(a, b):
            return self.found(samples=[sample(t, {"A": guest(a, 100), "B": guest(b, 200)}) for t in range(3)], fits=False)["shares"]
        self.assertTrue(shares(500, 1000))
        self.assertFalse(shares(700, 800))

    def test_a_guest_below_its_minimum_fails_even_for_a_moment(self):
        def lowest(*sizes):
            return self.found(samples=[sample(t, {"A": guest(size)}) for t, size in enumerate(sizes)], fits=False)["nobody"]
        self.assertTrue(lowest(300, 256, 300))
        self.assertFalse(lowest(300, 255, 300))

    def test_shares_stop_at_need_and_minimum(self):
        shares = checks.water_level_shares({"A": (0, 100, 1), "B": (0, 1000, 1), "C": (300, 1000, 1)}, 900)
        self.assertAlmostEqual(shares["A"], 100)
        self.assertAlmostEqual(shares["B"], 400, delta=1)
        self.assertAlmostEqual(shares["C"], 400, delta=1)

    def test_a_failed_run_fails_its_checks(self):
        timeline = Timeline(memory={"A": 1}, first_host=sample(0, {})["host"], failure="guest A died")
        self.assertFalse(any(check.passed for check in checks.run_checks(timeline)))


class Recording(unittest.TestCase):
    def found(self, script: str):
        with tempfile.TemporaryDirectory() as directory:
            program = Path(directory) / "balloon-sim"
            program.write_text("#!/bin/sh\n" + script)
            program.chmod(0o755)
            return check_recording(program, Path(directory))

    def budget(self, beyond: int, promised: int, decisions: int = 7):
        return self.found(f"""echo '{{"over_budget_ticks":{beyond},"over_budget_most_bytes":3145728,
                              "over_promised_ticks":{promised},"ticks":{decisions}}}'""")[1]

    def test_identical_plans_pass_and_the_result_is_shown(self):
        check = self.found("echo 'Recording:   now'; echo 'Result:      all 7 plans are identical'")[0]
        self.assertTrue(check.passed)
        self.assertEqual(check.found, "now; all 7 plans are identical")

    def test_other_plans_and_a_recording_that_is_not_there_fail_and_say_so(self):
        self.assertFalse(self.found("echo 'Result: 1 of 7 plans are different'; exit 3")[0].passed)
        check = self.found("echo 'balloon-sim: there are no recordings' >&2; exit 1")[0]
        self.assertFalse(check.passed)
        self.assertEqual(check.found, "balloon-sim: there are no recordings")
        self.assertFalse(any(check.passed for check in check_recording(Path("/nonexistent/balloon-sim"), Path("/"))))

    def test_guests_that_had_more_than_was_ever_there_for_them_fail(self):
        self.assertTrue(self.budget(0, 0).passed)
        self.assertTrue(self.budget(2, 0).passed, "the host itself took it")
        self.assertEqual(self.budget(2, 0).found,
                         "beyond it in 2 of 7 decisions, by 3 MiB at most; in 0 beyond what it had been")
        self.assertFalse(self.budget(2, 1).passed)
        self.assertFalse(self.budget(0, 0, decisions=0).passed, "a recording without decisions shows nothing")
        self.assertFalse(self.found("echo nonsense")[1].passed)


class Answers(unittest.TestCase):
    NAME = "balloon_backend_request_duration_seconds"

    def scrape(self, backend: str, request: str, seconds: float, counts: dict[str, int]) -> str:
        labels = f'backend="{backend}",request="{request}"'
        lines = [f'{self.NAME}_bucket{{{labels},le="{bound}"}} {count}' for bound, count in counts.items()]
        return "\n".join([*lines, f"{self.NAME}_sum{{{labels}}} {seconds}", f"{self.NAME}_count{{{labels}}} {max(counts.values())}", ""])

    def test_the_last_scrape_counts_and_who_was_not_asked_has_no_row(self):
        def counts(*values):
            return dict(zip(("0.005", "0.025", "0.1", "0.5", "+Inf"), values))
        with tempfile.TemporaryDirectory() as directory:
            scrapes = Path(directory) / "scrapes"
            self.assertEqual(answers_of(scrapes), [])
            scrapes.write_text(self.scrape("qemu", "stats", 9, counts(1, 1, 1, 1, 1))
                               + self.scrape("qemu", "target", 0.2, counts(0, 1, 2, 4, 4))
                               + self.scrape("qemu", "stats", 0.3, counts(5, 9, 10, 10, 10))
                               + self.scrape("libvirt", "stats", 0, counts(0, 0, 0, 0, 0)))
            self.assertEqual(answers_of(scrapes), [["statistics", "qemu", "10", "30 ms", "50 %", "90 %", "100 %", "100 %"],
                                                   ["a new size", "qemu", "4", "50 ms", "0 %", "25 %", "50 %", "100 %"]])


class Bars(unittest.TestCase):
    def test_a_bar_fills_with_what_is_done_and_does_not_overflow(self):
        self.assertEqual(bar(0, 0), f"[{'.' * 24}] 0/0")
        self.assertEqual(bar(6, 12, " MiB"), f"[{'#' * 12}{'.' * 12}] 6/12 MiB")
        self.assertEqual(bar(14, 12), f"[{'#' * 24}] 14/12")

    def test_a_log_tells_how_far_its_job_is(self):
        self.assertEqual(steps_in("[1/280] Building\n[70/280] Building [3/4]\n", ended=False), (70, 280))
        self.assertEqual(steps_in("testbed: step 3 of 9: making base\n", ended=False), (3, 9))
        self.assertEqual(steps_in("", ended=False), (0, 0))
        self.assertEqual(steps_in("testbed: step 3 of 9: making base\n", ended=True), (9, 9))


if __name__ == "__main__":
    unittest.main()

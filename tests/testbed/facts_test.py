# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the facts about Linux: what becomes of the probes' counts."""

import random
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from builder.facts_guest import parse_fact  # noqa: E402
from report import facts as report  # noqa: E402
from runner.facts import huge_pages  # noqa: E402

MIB = 1 << 20


class RereadTest(unittest.TestCase):
    def fact(self, **changed):
        return {"fact": "reread", "way": "mmap", "order": "random", "absent_bytes": 64 * MIB, "major_faults": 640, "refaults": 16384,
                "disk_bytes": 128 * MIB} | changed

    def test_counts_are_those_of_a_mib_that_had_to_be_read_again(self):
        figures = report.Figures()
        report.reread(figures, [self.fact()])
        found = figures.tree["reread"]
        self.assertEqual((found["mmap_major_faults_per_mib"], found["mmap_refaults_per_mib"], found["mmap_disk_bytes_per_byte"]), (10, 256, 2))

    def test_random_order_stands_at_the_top_and_the_others_below_their_names(self):
        figures = report.Figures()
        report.reread(figures, [self.fact(), self.fact(order="sequential", major_faults=0)])
        self.assertEqual(figures.tree["reread"]["sequential"]["mmap_major_faults_per_mib"], 0)
        self.assertEqual(figures.tree["reread"]["mmap_major_faults_per_mib"], 10)

    def test_a_figure_is_the_median_of_the_repeats_and_its_spread_is_kept(self):
        figures = report.Figures()
        report.reread(figures, [self.fact(major_faults=count) for count in (64, 640, 128)])
        self.assertEqual(figures.tree["reread"]["mmap_major_faults_per_mib"], 2)
        self.assertEqual(figures.spread["reread.mmap_major_faults_per_mib"], {"min": 1, "max": 10, "n": 3})


class NoiseTest(unittest.TestCase):
    def test_a_steady_drift_is_no_noise(self):
        self.assertAlmostEqual(report.sigma([1000.0 - 3 * second for second in range(60)]), 0, places=6)

    def test_independent_samples_have_their_own_sigma_and_steps_of_root_two_times_that(self):
        source = random.Random(1)
        values = [source.gauss(5000, 10) for _ in range(4000)]
        self.assertAlmostEqual(report.sigma(values), 10, delta=0.5)
        self.assertAlmostEqual(report.difference_sigma(values), 14.1, delta=0.7)
        self.assertAlmostEqual(report.autocorrelation(values), 0, delta=0.05)

    def test_a_slow_wave_is_told_from_independent_samples_by_its_autocorrelation(self):
        self.assertGreater(report.autocorrelation([abs(second % 40 - 20) for second in range(400)]), 0.9)

    def test_without_any_change_there_is_no_noise_and_no_autocorrelation(self):
        self.assertEqual((report.sigma([7.0] * 9), report.autocorrelation([7.0] * 9)), (0, 0))

    def test_figures_are_parts_of_the_guests_memory_by_the_files_name_of_the_load(self):
        figures = report.Figures()
        report.noise(figures, [{"fact": "noise", "load": "files_768_mib", "total_kib": 1000, "allocated_pages": 1024, "scanned_pages": 8,
                                "available_kib": [10, 0, 10, 0], "free_kib": [5, 5, 5, 5]}], {"files_768_mib": "load"})
        found = figures.tree["noise"]["load"]
        self.assertAlmostEqual(found["available_difference_sigma_ratio"], 0.009428, places=6)
        self.assertEqual((found["free_sigma_ratio"], found["allocated_mib_per_second"], found["scanned_pages_per_second"]), (0, 1, 2))
        self.assertEqual((found["samples"], found["period_seconds"]), (4, 1))


class ZramTest(unittest.TestCase):
    FACTS = [{"fact": "zram_reference", "first_touch_us": 2.0, "copy_us": 0.5},
             {"fact": "zram", "content": "heap", "pages": 100, "compressed_bytes": 140000, "used_bytes": 150000, "out_us": 1100, "in_us": 600,
              "walk_us": 100}]

    def figures(self, cpu_time=True):
        figures = report.Figures()
        report.zram(figures, self.FACTS, "zram", cpu_time)
        return figures.tree["zram"]

    def test_a_pages_bytes_are_what_zram_takes_for_it(self):
        self.assertEqual((self.figures()["bytes_per_page_heap"], self.figures()["compressed_bytes_per_page_heap"]), (1500, 1400))

    def test_a_pages_cpu_is_without_the_probes_own_walk(self):
        self.assertEqual((self.figures()["cpu_us_per_page_out"], self.figures()["cpu_us_per_page_in"]), (10, 5))
        self.assertEqual((self.figures()["cpu_relative_to_page_copy_out"], self.figures()["cpu_relative_to_page_copy_in"]), (20, 10))

    def test_an_emulated_cpus_time_is_told_relative_to_a_copy_only(self):
        found = self.figures(cpu_time=False)
        self.assertEqual((found["cpu_relative_to_page_copy_out"], [key for key in found if "_us" in key]), (20, []))

    def test_each_round_is_held_against_its_own_copy(self):
        figures = report.Figures()
        slow = [{**fact, **{key: 4 * value for key, value in fact.items() if key.endswith("_us")}} for fact in self.FACTS]
        report.zram(figures, self.FACTS + slow, "zram", True)
        self.assertEqual(figures.spread["zram.cpu_relative_to_page_copy_out"], {"min": 20, "max": 20, "n": 2})


class LruTest(unittest.TestCase):
    def test_a_cases_figure_is_of_its_last_passes_and_the_way_there_is_kept(self):
        figures = report.Figures()
        report.lru(figures, [{"fact": "lru_stream", "pass": number, "set_bytes": 100 * MIB, "stream_bytes": 400 * MIB,
                              "absent_bytes": absent * MIB, "available_kib": 200 * 1024}
                             for number, absent in enumerate((100, 60, 20, 9, 5, 1, 1, 3))], "classic")
        found = figures.tree["lru"]["classic"]["set_100_stream_400"]
        self.assertEqual((found["reread_evicted_ratio"], found["evicted_ratio_by_pass"]), (0.01, [0.6, 0.2, 0.09, 0.05, 0.01, 0.01, 0.03]))
        self.assertEqual(found["set_to_memory_ratio"], 0.5)

    def test_what_a_shrink_evicts_is_what_was_there_before(self):
        figures = report.Figures()
        report.lru(figures, [{"fact": "lru_shrink", "set_bytes": 100 * MIB, "rest_bytes": 200 * MIB, "ratio": 0.5,
                              "absent_before_bytes": 10 * MIB, "absent_bytes": 30 * MIB}], "mglru")
        found = figures.tree["lru"]["mglru"]["set_100_taken_50_percent"]
        self.assertEqual((found["taken_mib"], found["evicted_ratio"]), (100, 0.2))


class HugePagesTest(unittest.TestCase):
    def test_our_vmm_under_the_testbeds_setting_stands_at_the_top(self):
        fact = {"fact": "huge_pages", "thp": "always", "memory_mib": 512, "moved_mib": 128} | dict.fromkeys(report.HUGE_PAGE_KEYS, 1)
        figures = report.Figures()
        report.huge_pages(figures, [fact | {"vmm": vmm, "defrag": defrag, "before_mib": number}
                                    for number, (vmm, defrag) in enumerate(huge_pages.CASES)])
        found = figures.tree["huge_pages"]
        self.assertEqual((found["vmm"], found["defrag"], found["before_mib"]), ("balloon-vmm", "never", 0))
        self.assertEqual(found["qemu-pc_defrag_never"]["before_mib"], 1)

    def test_the_selected_word_of_a_setting_is_the_one_in_brackets(self):
        self.assertEqual(huge_pages.selected("always defer defer+madvise [madvise] never\n"), "madvise")


class FileTest(unittest.TestCase):
    def test_parts_that_were_not_measured_stay_as_they_were(self):
        figures = report.Figures()
        figures.put("zram.bytes_per_page_heap", [1500])
        before = {"kernel": "5.10", "lru": {"set_mib": 1}, "zram": {"bytes_per_page_heap": 9, "old": 1},
                  "spread": {"lru.set_mib": {"n": 1}, "zram.old": {"n": 1}}}
        after = report.merged(before, figures, "6.1")
        self.assertEqual((after["kernel"], after["lru"], after["zram"]), ("6.1", {"set_mib": 1}, {"bytes_per_page_heap": 1500}))
        self.assertEqual(sorted(after["spread"]), ["lru.set_mib", "zram.bytes_per_page_heap"])

    def test_a_probes_line_is_found_behind_the_kernels_own(self):
        self.assertEqual(parse_fact('[ 1.0] {"fact":"end","status":0}'), {"fact": "end", "status": 0})

    def test_what_is_no_probes_line_is_the_consoles(self):
        self.assertIsNone(parse_fact("[    0.1] Linux version"))
        self.assertIsNone(parse_fact('{"fact":"noise","available_kib":[1,'))

    def test_a_kernel_that_counts_otherwise_than_recorded_is_found_and_a_small_difference_is_not(self):
        figures = report.Figures()
        figures.put("reread.read_major_faults_per_mib", [16])
        figures.put("reread.mmap_major_faults_per_mib", [11])
        recorded = {"reread": {"read_major_faults_per_mib": 0.0, "mmap_major_faults_per_mib": 10.6}}
        self.assertEqual(report.departures(figures, recorded), ["reread.read_major_faults_per_mib is 16, recorded 0"])

    def test_the_table_has_a_line_for_each_figure(self):
        figures = report.Figures()
        figures.put("zram.bytes_per_page_heap", [1500, 1600, 1700])
        self.assertRegex(report.table(figures), r"zram\.bytes_per_page_heap +1600 +1500 +1700 +3")


if __name__ == "__main__":
    unittest.main()

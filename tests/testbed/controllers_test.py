# SPDX-License-Identifier: Apache-2.0
"""The comparison of controllers: its figures on a timeline by hand, the partition, and which runs are no comparison."""

import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from report import controllers as report  # noqa: E402
from report.timeline import Timeline  # noqa: E402
from runner.partition import partition_of  # noqa: E402
from runner.scenario import parse  # noqa: E402
from runner.workloads.static import GUEST_COSTS, HOST_KEEPS  # noqa: E402

MIB = 1 << 20
GIB = 1 << 30


def sample(at: float, resident: int, swap_in: int = 0) -> dict:
    return {"event": "sample", "t": at, "factor": 2.0, "host": {"swap_in_pages": swap_in, "swap_out_pages": 0, "oom_kills": 0}, "daemon": {"cpu": 1.5},
            "guests": {"A": {"cpu": 8.0, "load": {"requested": 2 * GIB, "resident": resident}}, "B": {"cpu": 4.0}}}


def run(seconds: float | None) -> Timeline:
    vmstat = {"pswpin": 256, "pswpout": 0, "oom_kill": 1, "balloon_inflate": 262144, "balloon_deflate": 0}
    timeline = Timeline()
    for event in [{"event": "start", "mode": "mom", "scenario": "s", "vmm": "libvirt", "guests": {}, "host": sample(0, 0)["host"]}, sample(0, 0),
                  {"event": "phase_start", "t": 0, "phase": "p", "title": "", "fits": True, "loaded": ["A"], "idle": []},
                  sample(10, GIB), sample(20, 2 * GIB, 512),
                  {"event": "phase_end", "t": 20, "phase": "p", "guests": {"A": {"status": {"vmstat": vmstat}}}, "overhead": {},
                   "demands": [{"guest": "A", "command": "load 2G", "seconds": seconds}, {"guest": "A", "command": "read /data 1M", "seconds": 3}]}]:
        timeline.add(event)
    return timeline


class Figures(unittest.TestCase):
    def test_they_are_of_the_quick_day_and_of_all_guests(self):
        found = report.figures(run(14))
        self.assertEqual((found["satisfied"], found["loads"], found["median_seconds"], found["longest_seconds"]), (1, 1, 7, 7))
        self.assertEqual(found["deficit"], 5, "a GiB was missing for 10 s at factor 2, then none")
        self.assertEqual((found["guest_swap"], found["host_swap_in"], found["kills"], found["moved"]), (1, 2, 1, 1))
        self.assertEqual((found["vmm_cpu"], found["controller_cpu"]), (6, 1.5))

    def test_a_load_that_never_has_its_memory_counts_with_the_time_that_it_waited(self):
        found = report.figures(run(None))
        self.assertEqual((found["satisfied"], found["loads"], found["longest_seconds"]), (0, 1, 10))

    def test_the_table_has_a_row_a_measure_and_says_where_rounds_differ(self):
        rows = {row[0]: row[1:] for row in report.table({"balloond": [report.figures(run(14))], "mom": [report.figures(run(14)), report.figures(run(None))]})}
        self.assertEqual(len(rows), len(report.MEASURES))
        self.assertEqual(rows["seconds to satisfaction, longest"], ["7", "8 (7 to 10)"])


class Partition(unittest.TestCase):
    def test_a_scenarios_policy_says_who_has_how_much(self):
        scenario = parse({"name": "s", "host_memory": "4G", "guests": {name: {"memory": "2G"} for name in "AB"},
                          "policy": {"defaults": {"min": "128M"}, "guests": [{"name": "A*", "weight": 300}]}, "phases": [{"name": "p"}]})
        sizes = partition_of(scenario, 2 * GIB + HOST_KEEPS + 2 * GUEST_COSTS)
        self.assertEqual(sizes, {"A": 1536 * MIB, "B": 512 * MIB})


class CommandLine(unittest.TestCase):
    def test_what_it_cannot_do_is_said_before_anything_runs(self):
        for options, said in ((["--controllers", "qmemman"], "there is no controller 'qmemman'"), (["--rounds", "0"], "0 rounds are none")):
            done = subprocess.run([HERE / "controllers", "--build-dir", "/nowhere", *options], text=True, capture_output=True)
            self.assertEqual((done.returncode, said in done.stderr), (1, True), done.stderr)


if __name__ == "__main__":
    unittest.main()

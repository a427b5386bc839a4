"""Real programs under controllers: mixes' files, partitions, parts that are kept and resumed, and the table."""

import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from builder import scenario_file  # noqa: E402
from report import workloads as report  # noqa: E402
from report.workload_part import PartName, PartRecord, inputs_digest, load, plan  # noqa: E402
from runner.scenario import ScenarioError  # noqa: E402
from runner.workloads.mix import is_work, parse, policy_of  # noqa: E402
from runner.workloads.static import MIB, shares  # noqa: E402

MIX = {"name": "m", "host_memory": "2G", "guests": {"A": {"memory": "1G", "weight": 150}, "B": {"memory": "512M"}},
       "phases": [{"name": "p", "work": {"A": ["redis fill 100M", "redis get 50"]}}]}


class MixFiles(unittest.TestCase):
    def refused(self, change: dict, message: str):
        with self.assertRaisesRegex(ScenarioError, message):
            parse(MIX | change)

    def test_shipped_mixes_are_good_and_of_three_to_eight_uneven_guests(self):
        files = list((HERE.parent / "scenarios/workloads").glob("*.yaml"))
        self.assertEqual(len(files), 3)
        for path in files:
            mix = parse(scenario_file.load(path))
            self.assertEqual(mix.name, path.stem)
            self.assertIn(len(mix.guests), range(3, 9))
            self.assertGreater(len({guest.spec.memory for guest in mix.guests}), 1)

    def test_work_is_a_program_and_amounts(self):
        for good in ("redis fill 300M", "postgres run 20", "files read 64M 3", "stress 64M 2"):
            self.assertTrue(is_work(good), good)
        for bad in ("redis fill 300", "redis fill", "files read 64M", "stress 0M 1", "postgres run 20; reboot", "sleep 3", 7):
            self.assertFalse(is_work(bad), bad)

    def test_what_is_wrong_is_refused_with_its_place(self):
        self.refused({"phases": [{"name": "p", "work": {"Z": ["redis get 1"]}}]}, r"phases\[0\].work.Z: there is no guest 'Z'")
        self.refused({"phases": [{"name": "p", "work": {"A": ["redis grow 1"]}}]}, "'redis grow 1' is none of")
        self.refused({"guests": {"A": {"memory": "1G", "min": "2G"}}, "phases": []}, "guests.A.min")
        self.refused({"devices": "tape"}, "'tape' is not one of nvme, disk, zram, unlimited")
        self.refused({"phases": [{"name": "p"}, {"name": "p"}]}, "the same name")

    def test_balloond_gets_the_weights_and_minimums_that_the_partition_uses(self):
        guests = policy_of(parse(MIX))["guests"]
        self.assertEqual(guests, [{"name": "A", "weight": 150, "min": "192M"}, {"name": "B", "weight": 100, "min": "192M"}])


class Partition(unittest.TestCase):
    def test_shares_are_by_weight(self):
        self.assertEqual(shares({"A": (0, 999 * MIB, 200), "B": (0, 999 * MIB, 100)}, 300 * MIB), {"A": 200 * MIB, "B": 100 * MIB})

    def test_nobody_is_above_its_memory_or_below_its_minimum_and_others_have_the_rest(self):
        found = shares({"A": (0, 100 * MIB, 100), "B": (0, 999 * MIB, 100), "C": (150 * MIB, 999 * MIB, 10)}, 500 * MIB)
        self.assertEqual(found, {"A": 100 * MIB, "B": 250 * MIB, "C": 150 * MIB})

    def test_with_room_for_all_each_has_its_memory_and_with_too_little_its_minimum(self):
        claims = {"A": (64 * MIB, 100 * MIB, 1), "B": (64 * MIB, 200 * MIB, 9)}
        self.assertEqual(shares(claims, 900 * MIB), {"A": 100 * MIB, "B": 200 * MIB})
        self.assertEqual(shares(claims, 50 * MIB), {"A": 64 * MIB, "B": 64 * MIB})


class Parts(unittest.TestCase):
    def test_controllers_take_turns_round_by_round(self):
        names = [str(name) for name in plan(["m", "n"], ["balloond", "none"], 2, "")]
        self.assertEqual(names[:4], ["m/balloond/1", "m/none/1", "n/balloond/1", "n/none/1"])
        self.assertEqual(len(names), 8)

    def test_parts_are_chosen_by_whole_words_of_their_names(self):
        self.assertEqual([str(name) for name in plan(["m", "mm"], ["none"], 2, "m/none/2,mm")], ["mm/none/1", "m/none/2", "mm/none/2"])
        with self.assertRaisesRegex(ValueError, "begins with 'x'"):
            plan(["m"], ["none"], 1, "x")

    def test_a_kept_part_counts_when_it_is_complete_and_of_the_same_inputs(self):
        name, inputs = PartName(1, "m", "none"), inputs_digest(MIX, "nvme")
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            self.assertIsNone(load(name, place, inputs))
            record = recorded(name, inputs, end=False)
            record.write(place)
            self.assertIsNone(load(name, place, inputs), "it did not come to its end")
            recorded(name, inputs).write(place)
            self.assertEqual(load(name, place, inputs)["phases"]["p"]["work"][0]["figures"], [80.0])
            self.assertIsNone(load(name, place, inputs_digest(MIX, "disk")), "other devices")
            name.file(place).write_text("{")
            self.assertIsNone(load(name, place, inputs), "damaged")

    def test_a_host_that_was_lost_leaves_nothing_of_its_run(self):
        record = recorded(PartName(1, "m", "none"), "x")
        record.forget()
        self.assertFalse(record.complete())
        self.assertEqual(record.document()["phases"], {})


def recorded(name: PartName, inputs: str, rate: float = 80.0, read: int = 1 << 20, end: bool = True) -> PartRecord:
    record = PartRecord(name, inputs)
    host = {"available": 5, "oom_kills": 0}
    counters = {"disk_read_bytes": read, "workingset_refault_file": 0, "workingset_refault_anon": 0, "pgmajfault": 3, "pswpin": 0, "oom_kill": 0}
    for event in ({"event": "start", "host": host}, {"event": "phase_start", "phase": "p", "title": "serves"},
                  {"event": "work", "t": 3, "phase": "p", "guest": "A", "command": "redis get 50", "seconds": 2.0, "unit": "requests/s",
                   "figures": [rate], "pass_bytes": [], "counters": counters},
                  {"event": "work", "t": 3, "phase": "p", "guest": "B", "command": "stress 9M 1", "error": "killed"},
                  {"event": "phase_end", "phase": "p", "seconds": 3, "host": {"swap_in_pages": 0, "swap_out_pages": 2560, "oom_kills": 0}}):
        record.take(event)
    if end:
        record.take({"event": "end", "guests": {}, "host": host})
    return record


class TableTest(unittest.TestCase):
    def rows(self):
        parts = [recorded(PartName(1, "m", "balloond"), "x", 80.0, 100 << 20), recorded(PartName(2, "m", "balloond"), "x", 90.0, 100 << 20),
                 recorded(PartName(1, "m", "none"), "x", 40.0, 300 << 20), recorded(PartName(2, "m", "none"), "x", 44.0, 200 << 20)]
        return report.rows_of([part.document() for part in parts])

    def test_a_programs_figure_is_shown_with_its_range_for_each_controller(self):
        text = report.table(self.rows(), ["balloond", "none"])
        self.assertRegex(text, r"p, A: redis get 50\n  requests/s +85.0 \(80.0 to 90.0\) +42.0 \(40.0 to 44.0\)")
        self.assertRegex(text, r"host swap out, MiB +10.0 \(10.0 to 10.0\)")

    def test_a_program_that_failed_is_shown_as_such(self):
        self.assertIn("failed: killed", report.table(self.rows(), ["balloond", "none"]))

    def test_counters_that_are_next_to_nothing_are_left_out(self):
        self.assertNotIn("major faults", report.table(self.rows(), ["balloond", "none"]))

    def test_rounds_that_do_not_agree_are_named(self):
        found = report.disagreements(self.rows())
        self.assertEqual(found, ["p, A, redis get 50, read from its disks, MiB, no controller: 200 to 300"])


if __name__ == "__main__":
    unittest.main()

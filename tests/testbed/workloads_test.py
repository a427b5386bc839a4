# SPDX-License-Identifier: Apache-2.0
"""Real programs under controllers: mixes' files, partitions, parts that are kept and resumed, and the table."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from builder import outer_host, scenario_file  # noqa: E402
from builder.errors import TestbedError  # noqa: E402
from report import workloads as report  # noqa: E402
from report.workload_part import PartName, PartRecord, inputs_digest, load, plan  # noqa: E402
from runner.qmp import QmpError  # noqa: E402
from runner.scenario import ScenarioError  # noqa: E402
from runner.workloads.mix import is_work, parse, policy_of  # noqa: E402
from runner.workloads.settling import Settling, sizes  # noqa: E402
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

    def test_one_guest_or_sixteen_are_enough_and_a_phase_may_have_no_work(self):
        for count in (1, 8, 16):
            guests = {f"G{number}": {"memory": "128M"} for number in range(count)}
            mix = parse(MIX | {"guests": guests, "phases": [{"name": "p", "work": {"G0": []}}, {"name": "idle", "settle": 20}]})
            self.assertEqual((len(mix.guests), mix.phases[1].work), (count, {}))
            self.assertEqual(mix.guests[0].minimum, 128 * MIB, "a small guest's minimum is no more than its memory")

    def test_a_guest_is_asked_for_nothing_before_it_was_filled(self):
        phases = [{"name": "p", "work": {"A": ["redis get 5"], "B": ["redis fill 9M"]}}]
        self.refused({"phases": phases}, r"phases\[0\].work.A: 'redis get 5' comes before any 'redis fill'")
        self.refused({"phases": [{"name": "p", "work": {"A": ["postgres select 5"]}}]}, "comes before any 'postgres fill'")

    def test_sizes_and_numbers_that_cannot_be_are_refused_with_their_place(self):
        for key, value in (("memory", "64M"), ("memory", "1000K"), ("memory", "900G"), ("swap", "100K"), ("swap", "90G"), ("cpus", 0), ("cpus", 99),
                           ("weight", 0), ("weight", -5), ("weight", 20_000), ("min", "0"), ("memory", 512), ("weight", True)):
            self.refused({"guests": {"A": {"memory": "512M"} | {key: value}}}, rf"guests.A.{key}: ")
        for host_memory in ("64M", "0", "2000000K", "900G", 2048):
            self.refused({"host_memory": host_memory}, "mix.host_memory: ")
        for key, value in (("timeout", 0), ("timeout", float("inf")), ("settle", -1), ("settle", float("nan"))):
            self.refused({"phases": [{"name": "p", key: value}]}, rf"phases\[0\].{key}: ")
        self.refused({"phases": [{"name": "p", "work": {"B": ["files read 2000M 1"]}}]}, "the data disk has 1024 MiB")

    def test_a_file_of_another_form_is_refused(self):
        self.refused({"phases": []}, "mix.phases: there is none")
        self.refused({"phases": ["fill"]}, r"phases\[0\]: expected a mapping")
        self.refused({"phases": [{"name": "p", "work": {"A": "redis fill 9M"}}]}, "expected a list of work")
        self.refused({"guests": {}}, "0 guests; there may be 1 to 16")
        self.refused({"guests": {f"G{number}": {"memory": "128M"} for number in range(17)}}, "17 guests")
        self.refused({"guests": {"A": None}}, "guests.A: expected a mapping")
        for name in (1, "a/b", "", ".x", "-x", True, "a" * 65):
            self.refused({"guests": {name: {"memory": "512M"}}}, "is no name")
        self.refused({"color": "red"}, "mix: unknown key 'color'")
        self.refused({"guests": {"A": {"memory": "1G", "ram": "1G"}}}, "guests.A: unknown key 'ram'")
        self.refused({"phases": [{"name": "p", "rest": 5}]}, r"phases\[0\]: unknown key 'rest'")
        self.refused({"policy": {"guests": {"A": {}}}}, "mix.policy.guests: expected a list")
        self.refused({"policy": {"engine": {"stale_after": 30}}}, "policy.engine.stale_after: '30' is not a number of s")
        for document in (None, [], "mix", 5):
            with self.assertRaisesRegex(ScenarioError, "mix: expected a mapping"):
                parse(document)

    def test_what_is_wrong_is_refused_with_its_place(self):
        self.refused({"phases": [{"name": "p", "work": {"Z": ["redis fill 1M"]}}]}, r"phases\[0\].work.Z: there is no guest 'Z'")
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

    def test_a_host_that_was_lost_leaves_nothing_of_its_run_but_that_it_was(self):
        record = recorded(PartName(1, "m", "none"), "x")
        for _ in range(2):
            record.restarts += 1
            record.forget()
        self.assertFalse(record.complete())
        self.assertEqual((record.document()["phases"], record.document()["outer_host_restarts"]), ({}, 2))

    def test_no_round_is_no_measurement(self):
        with self.assertRaisesRegex(ValueError, "0 rounds are none"):
            plan(["m"], ["none"], 0, "")


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
        record.take({"event": "end", "guests": {}, "host": host, "quick_seconds": 90.0})
    return record


class SettlingTest(unittest.TestCase):
    def test_a_run_goes_on_once_nothing_has_left_its_band_for_so_long(self):
        settling = Settling(6)
        self.assertFalse(settling.reached({"A.size": 100 * MIB}, 0))
        self.assertFalse(settling.reached({"A.size": 103 * MIB}, 5))
        self.assertTrue(settling.reached({"A.size": 98 * MIB}, 6))

    def test_what_creeps_does_not_stand_still_and_a_guest_less_begins_anew(self):
        settling = Settling(6)
        self.assertFalse(any(settling.reached({"A.size": second * MIB, "B.size": 0}, second) for second in range(60)))
        self.assertFalse(settling.reached({"A.size": 59 * MIB}, 60))
        self.assertTrue(settling.reached({"A.size": 59 * MIB}, 66))

    def test_a_vmm_that_has_ended_has_no_sizes_and_one_that_only_does_not_answer_is_an_error(self):
        class Gone:
            pid = os.getpid()
            living = False

            def alive(self):
                return self.living

        def silent(command):
            raise QmpError("the VMM hung up")

        guest = Gone()
        self.assertIsNone(sizes(guest, silent))
        guest.living = True
        self.assertGreater(sizes(guest, lambda command: {"actual": 5})["resident"], 0)
        with self.assertRaises(QmpError):
            sizes(guest, silent)


class MixesFromFiles(unittest.TestCase):
    def command(self, text: str | bytes, *options: str) -> str:
        """What the command says of a mix that it refuses."""
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            (place / "bin").mkdir()
            for program in ("balloon-vmm", "balloond", "balloonctl"):
                (place / "bin" / program).write_text("#!/bin/sh\necho 'policy.yaml: host.color: unknown key' >&2\nexit 1\n")
                (place / "bin" / program).chmod(0o755)
            (place / "mix.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
            done = subprocess.run([sys.executable, HERE / "workloads", "--build-dir", place, "--cache", place / "cache", "--mix", place / "mix.yaml",
                                   *options], text=True, capture_output=True, cwd=place)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr

    def test_a_bad_file_is_refused_by_its_name(self):
        self.assertRegex(self.command("name: [m"), "mix.yaml is not YAML")
        self.assertRegex(self.command(b"\xff\xfe\x00"), "mix.yaml is not YAML")
        self.assertRegex(self.command("name: m\nname: n\n"), "key 'name' is given twice")
        self.assertRegex(self.command("- a list"), "mix.yaml: mix: expected a mapping")
        self.assertRegex(self.command(json.dumps(MIX | {"host_memory": "1M"})), "mix.yaml: mix.host_memory")

    def test_what_balloond_refuses_is_told_before_anything_boots(self):
        self.assertRegex(self.command(json.dumps(MIX)), "mix m: balloond refuses its policy: policy.yaml: host.color: unknown key")

    def test_a_host_larger_than_this_machine_is_refused(self):
        outer_host.require_room(2048, 4096)
        with self.assertRaisesRegex(TestbedError, "4096 MiB are available here, an emulated host of 4000 MiB needs 5024 MiB"):
            outer_host.require_room(4000, 4096)

    def test_parts_that_are_none_are_refused(self):
        self.assertRegex(self.command(json.dumps(MIX), "--rounds", "0"), "0 rounds are none")
        self.assertRegex(self.command(json.dumps(MIX), "--controllers", "none,magic"), "there is no controller 'magic'")
        self.assertRegex(self.command(json.dumps(MIX), "--only", "q"), "no part's name begins with 'q'")


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

    def test_it_is_told_how_long_the_parts_took_and_how_fast_the_machine_was(self):
        part = recorded(PartName(1, "m", "none"), "x").document()
        parts = [part | {"minutes": minutes, "quick_minutes": 1.5, "speeds": [{"factor": factor}]} for minutes, factor in ((2.0, 1.0), (3.5, 2.0))]
        failed = part | {"complete": False, "minutes": 9.0}
        self.assertEqual(report.took([*parts, failed]), "measured parts took 5.5 min together, 2.0 to 3.5 each, at a speed factor of 1.5"
                         " (1.0 to 2.0); in time of the quick day 3.0 min, 1.5 to 1.5 each")
        self.assertEqual(report.took([failed]), "no part was measured")

    def test_rounds_that_do_not_agree_are_named(self):
        found = report.disagreements(self.rows())
        self.assertEqual(found, ["p, A, redis get 50, read from its disks, MiB, no controller: 200 to 300"])


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""The comparison's arithmetic: table, bars, rounds, and what is read out of fio's and the guests' answers."""

import signal
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report.bench import METRICS, Bar, Results, table  # noqa: E402
from runner import vmm  # noqa: E402
from runner.bench import block, durability, kvm_trace  # noqa: E402
from runner.bench.__main__ import Bench, StepTimeout  # noqa: E402
from runner.bench.bed import StepError  # noqa: E402
from runner.bench.parts import PARTS, Part, room_for_another, select  # noqa: E402
from runner.guest import is_vcpu  # noqa: E402
from runner.scenario import GuestSpec  # noqa: E402

IMAGES = vmm.Images(kernel=Path("/k"), initramfs=Path("/i"), data=Path("/d"), scratch=Path("/s"))


def measured(results, subject, **values):
    results.take({"event": "figures", "part": "p", "subject": subject, "round": 0, "values": values})


class KvmTraceTest(unittest.TestCase):
    TRACE = """# tracer: nop
 vmm-loop-812     [001] d..1.   100.000100: kvm_msi_set_irq: dst 0 vec 36 (Fixed|physical|edge)
 vcpu-0-815       [000] .....   100.000900: kvm_mmio: mmio write len 4 gpa 0xfee000b0 val 0x0
 vcpu-0-815       [000] .....   100.001000: kvm_mmio: mmio read len 4 gpa 0xe0001014 val 0x1
 vcpu-0-815       [000] .....   100.002100: kvm_mmio: mmio write len 2 gpa 0xe0003008 val 0x2
"""

    def test_a_write_to_a_devices_port_counts_and_one_to_the_platforms_does_not(self):
        trace = """
          vcpu-0-815       [000] .....   100.000500: kvm_pio: pio_write at 0x3f8 size 1 count 1 val 0x41
          vcpu-0-815       [000] .....   100.000600: kvm_pio: pio_read at 0x1004 size 2 count 1 val 0x0
          vcpu-0-815       [000] .....   100.000700: kvm_pio: pio_write at 0x1004 size 2 count 1 val 0x1
        """
        self.assertEqual(kvm_trace.parse(trace), ([], [100.0007]))

    def test_devices_writes_are_told_from_reads_and_interrupt_controllers(self):
        self.assertEqual(kvm_trace.parse(self.TRACE), ([100.0001], [100.0021]))

    def test_the_guests_time_is_from_interrupt_to_write(self):
        sent, written = kvm_trace.parse(self.TRACE)
        self.assertAlmostEqual(kvm_trace.guest_time(sent, written, 100, 100.01), 0.002)

    def test_what_is_not_in_the_window_is_missing(self):
        sent, written = kvm_trace.parse(self.TRACE)
        self.assertIsNone(kvm_trace.guest_time(sent, written, 100.001, 100.01))
        self.assertIsNone(kvm_trace.guest_time(sent, written, 100, 100.001))


class TableTest(unittest.TestCase):
    def results(self):
        results = Results()
        for value in (3.0, 1.0, 2.0):
            measured(results, "balloon-vmm", boot_bzimage_s=value)
        for value in (5.0, 4.0, 6.0):
            measured(results, "qemu-pc", boot_bzimage_s=value)
        measured(results, "qemu-microvm", boot_bzimage_s=1.0)
        return results

    def test_a_figure_is_the_median_and_its_ratio_to_each_peer(self):
        (figure,) = self.results().figures()
        self.assertEqual(figure["vmms"]["balloon-vmm"], {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3})
        self.assertEqual(figure["ratios"], {"qemu-pc": 0.4, "qemu-microvm": 2.0})

    def test_each_bar_is_held_against_its_own_peer(self):
        (figure,) = self.results().figures()
        self.assertEqual([bar["met"] for bar in figure["bars"]], [True, False])

    def test_a_bar_without_its_peers_figure_is_open(self):
        results = Results()
        measured(results, "balloon-vmm", boot_bzimage_s=1.0)
        (figure,) = results.figures()
        self.assertEqual([bar["met"] for bar in figure["bars"]], [None, None])

    def test_a_figure_of_a_peer_alone_has_neither_ratio_nor_verdict(self):
        results = Results()
        measured(results, "qemu-pc", shrink_mib_s=40.0)
        (figure,) = results.figures()
        self.assertEqual((figure["ratios"], [bar["met"] for bar in figure["bars"]]), ({}, [None, None]))
        self.assertIn("40.0", table([figure]))

    def test_lists_count_as_so_many_samples(self):
        results = Results()
        measured(results, "balloon-vmm", private_mib=[1.0, 2.0, 9.0])
        (figure,) = results.figures()
        self.assertEqual((figure["vmms"]["balloon-vmm"]["median"], figure["bars"][0]["met"]), (2.0, True))

    def test_a_bar_of_none_at_all_is_met_by_zero_only(self):
        self.assertTrue(Bar(at_most=0).met(0, None))
        self.assertFalse(Bar(at_most=0).met(1, None))

    def test_the_table_says_who_missed_what(self):
        text = table(self.results().figures())
        self.assertIn("start to init, bzImage [s]", text)
        self.assertIn("≤ 0.5× pc, ≤ 1× microvm", text)
        self.assertIn("MISSED", text)

    def test_one_bound_for_both_peers_is_said_once(self):
        results = Results()
        measured(results, "balloon-vmm", shrink_mib_s=90.0)
        self.assertIn("≥ 3× pc and microvm", table(results.figures()))

    def test_beside_the_old_one_it_is_nearly_as_quick_and_no_dearer(self):
        results = Results(against_old=True)
        measured(results, vmm.OURS, private_mib=1.06, shrink_mib_s=91.0, shrink_cpu_s_gib=1.05, boot_bzimage_s=9.0)
        measured(results, vmm.OLD, private_mib=1.0, shrink_mib_s=100.0, shrink_cpu_s_gib=1.0, boot_bzimage_s=1.0)
        met = {figure["metric"]: [bar["met"] for bar in figure["bars"]] for figure in results.figures()}
        self.assertEqual(met, {"private_mib": [False], "shrink_mib_s": [True], "shrink_cpu_s_gib": [True], "boot_bzimage_s": []})
        text = table(results.figures(), results.peers)
        self.assertIn("≤ 1.05× old", text)
        self.assertIn("× balloon-vmm-old", text)
        self.assertNotIn("qemu", text)

    def test_every_metric_belongs_to_a_part(self):
        self.assertLessEqual({metric.part for metric in METRICS}, {part.name for part in PARTS})

    def test_a_failed_step_is_kept_with_its_reason(self):
        results = Results()
        results.take({"event": "step_failed", "part": "net", "subject": "qemu-pc", "round": 1, "reason": "no answer", "t": 3})
        self.assertEqual(results.failures, [{"part": "net", "subject": "qemu-pc", "round": 1, "reason": "no answer"}])


class LostHostTest(unittest.TestCase):
    def test_the_part_under_way_is_forgotten_and_those_before_it_are_kept(self):
        results = Results()
        failed = {"event": "step_failed", "subject": "qemu-pc", "round": 0, "reason": "no answer"}
        results.take({"event": "part", "part": "boot"})
        measured(results, "balloon-vmm", boot_bzimage_s=1.0)
        results.take({**failed, "part": "boot"})
        results.take({"event": "part", "part": "idle"})
        measured(results, "balloon-vmm", idle_percent=1.0)
        results.take({**failed, "part": "idle"})
        results.forget_part()
        self.assertEqual((results.part, list(results.samples), [failure["part"] for failure in results.failures]),
                         ("idle", ["boot_bzimage_s"], ["boot"]))

    def test_one_that_is_lost_before_its_first_part_has_nothing_to_forget(self):
        results = Results()
        results.forget_part()
        self.assertEqual((results.part, results.samples), (None, {}))


class RoundsTest(unittest.TestCase):
    def test_the_first_round_runs_in_any_case(self):
        self.assertTrue(room_for_another(0, 5, 0, 0, 0))

    def test_no_round_starts_that_would_not_end_in_time(self):
        self.assertTrue(room_for_another(1, 5, 100, 100, 200))
        self.assertFalse(room_for_another(1, 5, 101, 100, 200))

    def test_no_more_rounds_than_wanted(self):
        self.assertFalse(room_for_another(5, 5, 1, 1, 1000))

    def test_all_budgets_fit_in_the_minutes(self):
        self.assertLessEqual(sum(part.budget for part in PARTS), 40 * 60)

    def test_parts_are_selected_in_their_own_order(self):
        self.assertEqual([part.name for part in select("net,boot")], ["boot", "net"])
        self.assertEqual(select(""), PARTS)

    def test_the_old_one_takes_the_place_of_qemu_in_every_part(self):
        parts = select("durability,boot", against_old=True)
        self.assertEqual([(part.name, part.subjects) for part in parts], [(name, (vmm.OURS, vmm.OLD)) for name in ("boot", "durability")])
        self.assertEqual(durability.MODES[vmm.OLD], durability.MODES[vmm.OURS])

    def test_an_unknown_part_is_refused_with_its_name(self):
        with self.assertRaisesRegex(ValueError, "blok"):
            select("boot,blok")


class StepsTest(unittest.TestCase):
    class Events(list):
        def emit(self, kind, **fields):
            self.append((kind, fields.get("subject"), fields.get("round")))

    class Bed:
        closed = 0

        def close(self):
            self.closed += 1

    def run_part(self, step, limit=5, repeats=2):
        bed, events = self.Bed(), self.Events()
        bench = Bench(bed, events, repeats, 1)
        bench.run(Part("p", "", step, 100, limit, ("a", "b")))
        return bench, bed, [event for event in events if event[0] != "part"]

    def test_rounds_are_interleaved_and_each_step_is_tidied_up(self):
        bench, bed, events = self.run_part(lambda bed, subject: {"x": 1.0})
        self.assertEqual(events, [("figures", "a", 0), ("figures", "b", 0), ("figures", "a", 1), ("figures", "b", 1)])
        self.assertEqual((bench.failed, bed.closed), (False, 4))

    def test_a_step_that_fails_stops_nobody_else(self):
        def step(bed, subject):
            if subject == "a":
                raise StepError("no")
            return {"x": 1.0}

        bench, bed, events = self.run_part(step, repeats=3)
        self.assertEqual([event for event in events if event[1] == "b"], [("figures", "b", number) for number in range(3)])
        self.assertEqual([event for event in events if event[1] == "a"], [("step_failed", "a", number) for number in range(2)])
        self.assertTrue(bench.failed)

    def test_a_step_that_hangs_ends_at_its_limit(self):
        def end(number, frame):
            raise StepTimeout()

        before = signal.signal(signal.SIGALRM, end)
        try:
            bench, _, events = self.run_part(lambda bed, subject: time.sleep(30) if subject == "a" else {}, limit=1, repeats=1)
        finally:
            signal.signal(signal.SIGALRM, before)
        self.assertEqual(events, [("step_failed", "a", 0), ("figures", "b", 0)])
        self.assertTrue(bench.failed)


class FioTest(unittest.TestCase):
    def line(self, job, error="0"):
        return f"{job};{error};2048;512;1024;256"

    def test_each_job_gives_the_figure_of_its_own_direction(self):
        found = block.figures([self.line(name) for name, _, _ in block.JOBS])
        self.assertEqual(found["block_randread_qd1"], 512)
        self.assertEqual(found["block_randwrite_fsync"], 256)
        self.assertEqual(found["block_seqread"], 2.0)
        self.assertEqual(found["block_seqwrite"], 1.0)

    def test_a_job_that_failed_or_is_missing_is_named(self):
        with self.assertRaisesRegex(StepError, "seqwrite: no result"):
            block.figures([self.line(name) for name, _, _ in block.JOBS[:-1]])
        with self.assertRaisesRegex(StepError, "randread_qd1: error 5"):
            block.figures([self.line(name, "5") for name, _, _ in block.JOBS])


class DurabilityTest(unittest.TestCase):
    def image(self, directory, numbers):
        path = Path(directory) / "image"
        with open(path, "wb") as file:
            file.truncate(durability.BLOCK * durability.BLOCKS)
            for number in numbers:
                file.seek(number * durability.STRIDE % durability.BLOCKS * durability.BLOCK)
                file.write(durability.block_of(number))
        return path

    def test_places_are_as_many_as_numbers(self):
        places = {number * durability.STRIDE % durability.BLOCKS for number in range(durability.BLOCKS)}
        self.assertEqual(len(places), durability.BLOCKS)

    def test_blocks_that_are_there_are_not_missing(self):
        with tempfile.TemporaryDirectory() as directory:
            self.assertEqual(durability.missing_blocks(self.image(directory, range(64)), 64), [])

    def test_a_block_that_was_not_written_or_is_torn_is_missing(self):
        with tempfile.TemporaryDirectory() as directory:
            path = self.image(directory, [number for number in range(64) if number != 7])
            with open(path, "r+b") as file:
                file.seek(9 * durability.STRIDE % durability.BLOCKS * durability.BLOCK + 2048)
                file.write(bytes(512))
            self.assertEqual(durability.missing_blocks(path, 64), [7, 9])


class CommandLineTest(unittest.TestCase):
    def command(self, subject, **extras):
        return " ".join(vmm.command(subject, GuestSpec("a", 512 << 20), IMAGES, None, vmm.Extras(data=False, **extras)))

    def test_microvm_gets_the_devices_of_its_own_bus(self):
        line = self.command("qemu-microvm", tap="t", disks=(vmm.Disk(Path("/x"), "bench", direct=True),))
        self.assertNotIn("-pci", line)
        self.assertIn("virtio-net-device,netdev=net0", line)
        self.assertIn("cache=none,aio=io_uring,file=/x", line)

    def test_the_old_one_is_told_what_ours_is(self):
        ours, old = self.command(vmm.OURS, link="/l"), self.command(vmm.OLD, link="/l")
        self.assertEqual(old, ours.replace(vmm.OURS, vmm.OLD))

    def test_all_are_told_to_have_the_memory_from_the_start(self):
        self.assertIn("--memory-backing preallocate=on", self.command("balloon-vmm", preallocate=True))
        line = self.command("qemu-pc", preallocate=True)
        self.assertIn("-M pc,memory-backend=ram", line)
        self.assertIn("memory-backend-ram,id=ram,size=512M,prealloc=on", line)

    def test_both_ways_to_say_vhost(self):
        self.assertIn("tap=t,vhost=force", self.command("balloon-vmm", tap="t", vhost=True))
        self.assertIn("vhost=on", self.command("qemu-pc", tap="t", vhost=True))

    def test_vcpu_threads_of_both_are_known_by_their_names(self):
        self.assertTrue(is_vcpu("vcpu-0") and is_vcpu("CPU 0/KVM"))
        self.assertFalse(is_vcpu("qemu-system-x86") or is_vcpu("balloon-vmm"))


if __name__ == "__main__":
    unittest.main()

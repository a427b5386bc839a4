# SPDX-License-Identifier: Apache-2.0
"""Scenario files: what is wrong in one is refused with its place."""

import sys
import tempfile
import unittest
from xml.etree import ElementTree
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from builder import scenario_file  # noqa: E402
from builder.errors import TestbedError  # noqa: E402
from runner import libvirt, vmm  # noqa: E402
from runner.progress import GRAIN, STALL_SECONDS, Progress  # noqa: E402
from runner.rest import Rest, have_given  # noqa: E402
from runner.scenario import ScenarioError, pace, parse, scaled, with_backend  # noqa: E402

REST_SECONDS = 60


class Scenarios(unittest.TestCase):
    def refused(self, change: dict, message: str):
        document = {"name": "x", "guests": {"A": {"memory": "1G"}}, "phases": []}
        with self.assertRaisesRegex(ScenarioError, message):
            parse(document | change)

    def test_shipped_scenarios_are_good(self):
        for path in (HERE.parent / "scenarios").glob("*.yaml"):
            parse(scenario_file.load(path))

    def test_unknown_key_is_refused(self):
        self.refused({"colour": "blue"}, "unknown key 'colour'")
        self.refused({"guests": {"A": {"memory": "1G", "ram": "1G"}}}, "guests.A: unknown key 'ram'")

    def test_runs_with_and_without_balloond_have_the_same_guests(self):
        document = {"name": "x", "guests": {"A": {"memory": "1G", "free_page_reporting": False}, "B": {"memory": "1G"}}, "phases": [],
                    "baseline": {"free_page_reporting": False}}
        scenario = parse(document)
        self.assertEqual([guest.free_page_reporting for guest in scenario.guests], [False, True])
        self.assertRegex(scenario.notes[0], "baseline is ignored")
        self.assertEqual(parse({**document, "baseline": {}}).devices, "nvme")
        self.refused({"devices": "tape"}, "scenario.devices: 'tape' is not one of")

    def test_each_guest_may_have_a_vmm_of_its_own(self):
        document = {"name": "x", "vmm": "qemu", "guests": {"A": {"memory": "1G"}, "B": {"memory": "1G", "vmm": "balloon-vmm"}}, "phases": []}
        scenario = parse(document)
        self.assertEqual([scenario.vmm_of(guest) for guest in scenario.guests], ["qemu", "balloon-vmm"])
        self.assertEqual(scenario.vmms, ["balloon-vmm", "qemu"])
        self.refused({"vmm": "xen"}, "scenario.vmm: 'xen' is not one of balloon-vmm, qemu")
        self.refused({"guests": {"A": {"memory": "1G", "vmm": "xen"}}}, "guests.A.vmm: 'xen' is not one of")

    def test_a_backend_takes_the_place_of_what_the_file_says(self):
        document = {"name": "x", "vmm": "qemu", "guests": {name: {"memory": "1G"} for name in "ABCD"}, "phases": []}
        run_by = {backend: [guest.vmm for guest in parse(with_backend(document, backend)).guests] for backend in ("vmm", "qemu", "libvirt", "mixed")}
        self.assertEqual(run_by["vmm"], ["balloon-vmm"] * 4)
        self.assertEqual(run_by["qemu"], ["qemu"] * 4)
        self.assertEqual(run_by["mixed"], ["balloon-vmm", "qemu", "libvirt", "balloon-vmm"])

    def test_half_the_scale_halves_all_memory_and_nothing_else(self):
        document = scenario_file.load(HERE.parent / "scenarios/demo.yaml")
        whole, half = parse(document), parse(scaled(document, 2))
        self.assertEqual(half.host_memory * 2, whole.host_memory)
        self.assertEqual([(guest.memory * 2, guest.swap * 2) for guest in half.guests], [(guest.memory, guest.swap) for guest in whole.guests])
        self.assertEqual(half.phases[1].work["D"], ["load 640M", "read /data 48M"])
        self.assertEqual(half.policy["defaults"], {"min": "128M"})
        self.assertEqual(half.phases[1].timeout, whole.phases[1].timeout)
        self.assertEqual(half.policy["engine"]["stale_after"], "30s")

    def test_a_domain_of_libvirts_has_what_the_other_guests_have(self):
        images = vmm.Images(Path("vmlinuz"), Path("initramfs"), Path("data.ext4"), Path("scratch"))
        spec = parse({"name": "x", "guests": {"A": {"memory": "1G", "cpus": 2}}, "phases": []}).guests[0]
        xml = ElementTree.fromstring(libvirt.domain_xml(spec, images, Path("swap.raw"), vmm.Extras(), Path("console"), pin=True))
        self.assertEqual(xml.findtext("memory"), str(1 << 30))
        self.assertEqual([disk.findtext("serial") for disk in xml.iter("disk")], ["swap", "data"])
        self.assertEqual([disk.find("readonly") is not None for disk in xml.iter("disk")], [False, True])
        self.assertEqual(xml.find("devices/memballoon").attrib, {"model": "virtio", "autodeflate": "on", "freePageReporting": "on"})
        self.assertEqual({pin.get("cpuset") for pin in xml.find("cputune")}, {"1"})

    def test_missing_or_wrong_size_is_refused(self):
        self.refused({"guests": {"A": {}}}, "guests.A: 'memory' is missing")
        self.refused({"guests": {"A": {"memory": "1 gig"}}}, "guests.A.memory: '1 gig' is not a size")

    def test_work_for_an_unknown_guest_or_of_an_unknown_kind_is_refused(self):
        self.refused({"phases": [{"name": "p", "work": {"Z": ["free"]}}]}, "there is no guest 'Z'")
        self.refused({"phases": [{"name": "p", "work": {"A": ["explode"]}}]}, r"phases\[0\].work.A")

    def test_a_key_given_twice_is_refused_with_its_line(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("name: a\nname: b\n")
            file.flush()
            with self.assertRaisesRegex(TestbedError, ":1: key 'name' is given twice"):
                scenario_file.load(Path(file.name))

    def test_what_the_policy_says_of_slow_guests_is_for_the_quick_day(self):
        policy = {"engine": {"stale_after": "30s", "progress_per_second": "32KiB", "hold": "2s"}, "defaults": {"min": "256M"}}
        slow = pace(policy, 3.0)
        self.assertEqual(slow["engine"], {"stale_after": "90s", "progress_per_second": "10KiB", "hold": "2s"})
        self.assertEqual(slow["defaults"], policy["defaults"])
        self.assertEqual(pace(policy, 0.2), policy)
        with self.assertRaisesRegex(ScenarioError, "policy.engine.stale_after: 'soon' is not a number of s"):
            pace({"engine": {"stale_after": "soon"}}, 3.0)


class ProgressTest(unittest.TestCase):
    def stalled_after(self, *samples: dict) -> bool:
        """Samples come at even distances, the last one STALL_SECONDS after the first."""
        progress = Progress({"A": 1 << 30})
        return [progress.stalled({"A": sample}, number * STALL_SECONDS / (len(samples) - 1)) for number, sample in enumerate(samples)][-1]

    def test_a_phase_in_which_no_counter_moves_has_stalled(self):
        self.assertTrue(self.stalled_after(*[{"actual": 1 << 29, "load": {"touched": GRAIN, "resident": GRAIN}, "read": 0}] * 3))

    def test_a_load_a_reader_or_a_size_that_moves_is_progress(self):
        self.assertFalse(self.stalled_after(*[{"actual": 1 << 29, "load": {"touched": n * GRAIN, "resident": 0}} for n in range(3)]))
        self.assertFalse(self.stalled_after(*[{"actual": 1 << 29, "read": n * GRAIN} for n in range(3)]))
        self.assertFalse(self.stalled_after(*[{"actual": (1 << 29) + n * (32 << 20)} for n in range(3)]))

    def test_pages_that_only_go_to_swap_and_come_back_are_none(self):
        resident = [100 * GRAIN, 90 * GRAIN, 100 * GRAIN]
        self.assertTrue(self.stalled_after(*[{"actual": 1 << 29, "load": {"touched": 100 * GRAIN, "resident": size}} for size in resident]))


class RestTest(unittest.TestCase):
    def reached_after(self, *samples: dict) -> bool:
        """Samples come at even distances, the last one REST_SECONDS after the first."""
        rest = Rest({"A": 1024}, REST_SECONDS)
        return [rest.reached({"A": sample}, number * REST_SECONDS / (len(samples) - 1)) for number, sample in enumerate(samples)][-1]

    def test_sizes_that_stand_are_at_rest_and_ones_that_creep_are_not(self):
        sizes = [{"actual": 500, "target": 500, "state": "controlled"}] * 3
        self.assertTrue(self.reached_after(*sizes))
        self.assertFalse(self.reached_after(sizes[0], {**sizes[0], "actual": 520, "target": 520}, {**sizes[0], "actual": 540, "target": 540}))

    def test_a_guest_on_its_way_or_out_of_control_is_not_at_rest(self):
        self.assertFalse(self.reached_after(*[{"actual": 500, "target": 400, "state": "controlled"}] * 3))
        self.assertFalse(self.reached_after(*[{"actual": 500, "target": 500, "state": "stuck"}] * 3))

    def test_without_the_daemon_what_a_guest_has_of_the_host_counts(self):
        self.assertTrue(self.reached_after({"rss": 500}, {"rss": 505}, {"rss": 495}))
        self.assertFalse(self.reached_after({"rss": 500}, {"rss": 600}, {"rss": 600}))

    def test_idle_guests_have_given_once_their_balloons_are_where_they_should_be(self):
        memory = {"A": 1024, "B": 1024}
        self.assertFalse(have_given({"A": {"actual": 600, "target": 500}}, memory, ["A"]))
        self.assertTrue(have_given({"A": {"actual": 510, "target": 500}}, memory, ["A"]))
        self.assertTrue(have_given({"A": {"actual": 500, "target": 900}}, memory, ["A"]), "it is to grow")
        self.assertTrue(have_given({"A": {"actual": 500, "target": 500}, "B": {"actual": 900, "target": 500}}, memory, ["A"]), "B is not idle")
        self.assertTrue(have_given({"A": {"rss": 900}}, memory, ["A"]), "without the daemon nothing is asked of it")

    def test_before_the_first_sample_nothing_is_at_rest(self):
        self.assertFalse(Rest({"A": 1024}, REST_SECONDS).reached({}, 100))


if __name__ == "__main__":
    unittest.main()

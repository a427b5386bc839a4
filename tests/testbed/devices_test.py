# SPDX-License-Identifier: Apache-2.0
"""The emulated host's devices: their classes, what QEMU is told, and how they are measured."""

import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from builder.throttle import Throttle  # noqa: E402
from runner import devices, vmm  # noqa: E402
from runner.scenario import GuestSpec  # noqa: E402


class Devices(unittest.TestCase):
    def test_a_class_is_divided_by_the_slowdown(self):
        self.assertEqual(devices.CLASSES["disk"].limits(10), devices.Limits(300, 13107200, 13107200))
        self.assertEqual(devices.CLASSES["nvme"].limits(10), devices.Limits(1176, 320_000_000, 105_000_000))

    def test_all_devices_of_the_host_share_one_limit_and_unlimited_ones_have_none(self):
        throttle = Throttle("disk", Path("/q"))
        options = throttle.drive_options("swap")
        self.assertRegex(options, r",id=swap,throttling.iops-total=\d+,throttling.bps-read=\d+,throttling.bps-write=\d+,throttling.group=device")
        self.assertEqual((Throttle("unlimited", Path("/q")).drive_options("swap"), Throttle("unlimited", Path("/q")).qemu_options()), ("", []))

    def test_disks_of_a_host_with_zram_are_nvme(self):
        self.assertIs(devices.of_disks("zram"), devices.CLASSES["nvme"])

    def test_a_measured_slowdown_changes_the_limits_and_other_events_do_not(self):
        told = []

        class Recorder(Throttle):
            def _ask(self, command, **arguments):
                told.append((command, arguments["iops"], arguments["group"]))

        throttle = Recorder("disk", Path("/q"))
        throttle.take('{"event":"speed","slowdown":30}')
        throttle.take('{"event":"devices","slowdown":60}')
        throttle.take('not JSON, with "slowdown"')
        self.assertEqual(told, [("block_set_io_throttle", 100, "device")])

    def test_a_run_tells_the_limits_and_what_was_measured_in_the_host(self):
        seen = {"random_iops": 250.4, "sequential_bytes_s": 11_900_000}
        text = devices.describe({"devices": "disk", "slowdown": 12.0, "measured": {"swap": seen, "guests' disks": seen}})
        self.assertIn("divided by 12.0: 250 requests/s, 10.9 and 10.9 MB/s; Amazon EBS gp3", text)
        self.assertIn("Measured in the host: swap 250 requests/s of 4 KiB, 11.9 MB/s in a row, guests' disks 250", text)

    def test_zram_has_no_device_of_its_own_to_measure(self):
        told = []

        class Events:
            def emit(self, kind, **fields):
                told.append(fields["measured"])

        with tempfile.NamedTemporaryFile(dir=HERE) as file:
            file.write(b"x" * (4 << 20))
            file.flush()
            devices.report(Events(), "zram", Path(file.name))
        self.assertEqual(list(told[0]), ["guests' disks"])

    def test_reads_of_a_file_are_counted(self):
        with tempfile.NamedTemporaryFile(dir=HERE) as file:
            file.write(b"x" * (4 << 20))
            file.flush()
            found = devices.measure(Path(file.name), lambda seconds: 0.05)
        self.assertGreater(found["sequential_bytes_s"], 0)
        self.assertGreater(found["random_iops"], 0)

    def test_a_guests_data_is_read_past_the_hosts_cache(self):
        images = vmm.Images(kernel=Path("/k"), initramfs=Path("/i"), data=Path("/d"), scratch=Path("/s"))
        line = vmm.command("balloon-vmm", GuestSpec("A", 1 << 30), images, None, vmm.Extras())
        self.assertIn("path=/d,readonly,serial=data,cache=none,engine=io_uring", line)


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""What is read out of lspci, /proc/interrupts and ethtool, as a guest prints them."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runner.inspection import InspectionError, bound_drivers, interrupts_in, listed_devices, paragraph_of, ring_sizes, shell  # noqa: E402

LSPCI = """00:00.0 Host bridge [0600]: Red Hat, Inc. QEMU PCIe Host bridge [1b36:0008]
\tFlags: fast devsel

00:01.0 Unclassified device [00ff]: Red Hat, Inc. Virtio 1.0 memory balloon [1af4:1045] (rev 01)
\tFlags: bus master, fast devsel, latency 0
\tCapabilities: [98] MSI-X: Enable+ Count=6 Masked-
\tKernel driver in use: virtio-pci

00:02.0 Unclassified device [00ff]: Red Hat, Inc. Virtio RNG [1af4:1005]
\tKernel driver in use: virtio-pci

"""
INTERRUPTS = """           CPU0       CPU1
  4:       1203          0   IO-APIC   4-edge      ttyS0
 17:          5          2   IO-APIC  17-fasteoi   virtio2, virtio3
 24:          0          0   PCI-MSI 16384-edge      virtio0-config
 25:         31         11   PCI-MSI 16385-edge      virtio0-input.0
NMI:          0          0   Non-maskable interrupts
"""
RINGS = """Ring parameters for eth0:
Pre-set maximums:
RX:\t\t\t256
RX Mini:\t\tn/a
RX Jumbo:\t\tn/a
TX:\t\t\t512
Current hardware settings:
RX:\t\t\t128
RX Mini:\t\tn/a
RX Jumbo:\t\tn/a
TX:\t\t\t64
RX Buf Len:\t\tn/a
CQE Size:\t\tn/a
TX Push:\toff
"""


class FakeGuest:
    def __init__(self, output: str, status: int = 0):
        self._answer = {"status": status, "output": output}

    def ask(self, command: str) -> dict:
        return self._answer


class LspciTest(unittest.TestCase):
    def test_a_device_has_a_paragraph(self):
        self.assertEqual([device.split()[0] for device in listed_devices(LSPCI)], ["00:00.0", "00:01.0", "00:02.0"])

    def test_a_device_is_found_by_its_name_and_has_its_own_lines(self):
        balloon = paragraph_of(LSPCI, "Virtio 1.0 memory balloon")
        self.assertIn("MSI-X: Enable+", balloon)
        self.assertNotIn("RNG", balloon)

    def test_a_name_that_only_a_transitional_device_has_is_not_a_modern_ones(self):
        with self.assertRaisesRegex(InspectionError, "0 devices 'Virtio 1.0 RNG'"):
            paragraph_of(LSPCI, "Virtio 1.0 RNG")
        self.assertIn("1005", paragraph_of(LSPCI, "Virtio RNG"))


class BusTest(unittest.TestCase):
    def test_a_driver_has_its_device_and_a_device_without_one_shows(self):
        said = "virtio0 ../../../../bus/virtio/drivers/virtio_balloon\nvirtio1 \n"
        self.assertEqual(bound_drivers(FakeGuest(said)), {"virtio_balloon": "virtio0", "": "virtio1"})

    def test_a_command_that_fails_in_the_guest_is_an_error_that_shows_what_it_said(self):
        with self.assertRaisesRegex(InspectionError, "status 127: sh: lspci: not found"):
            shell(FakeGuest("sh: lspci: not found", 127), "lspci")


class InterruptsTest(unittest.TestCase):
    def test_counts_of_all_cpus_are_added_and_pins_are_told_from_messages(self):
        interrupts = interrupts_in(INTERRUPTS)
        self.assertEqual(set(interrupts), {"virtio0-config", "virtio0-input.0", "virtio2", "virtio3"})
        self.assertEqual((interrupts["virtio0-input.0"].count, interrupts["virtio0-input.0"].message), (42, True))
        self.assertEqual((interrupts["virtio3"].count, interrupts["virtio3"].message), (7, False))


class RingsTest(unittest.TestCase):
    def test_the_largest_sizes_and_those_in_use(self):
        self.assertEqual(ring_sizes(RINGS), ({"RX": 256, "TX": 512}, {"RX": 128, "TX": 64}))


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""What is done when the emulated outer host is lost: which one is booted then, and how often."""

import contextlib
import io
import signal
import sys
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

from builder import outer_host, outer_image  # noqa: E402
from builder.throttle import Throttle  # noqa: E402

LOST = (outer_host.OUTER_LOST, "a soft lockup")


class RestartTest(unittest.TestCase):
    def setUp(self):
        self.addCleanup(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))

    def run_with(self, ends: list[tuple[int, str | None]], **options) -> tuple[outer_host.RunResult, list[str]]:
        """The result of runs that end so, and which hosts were booted."""
        with mock.patch.object(outer_host, "_run_once", side_effect=ends) as boots, contextlib.redirect_stderr(io.StringIO()):
            result = outer_host.run(None, "first", outer_host.Request(**options))
        return result, [call.args[1] for call in boots.call_args_list]

    def test_a_run_that_ends_by_itself_is_not_repeated_whatever_its_status(self):
        result, booted = self.run_with([(1, None)])
        self.assertEqual((result.status, result.restarts, booted), (1, 0, ["first"]))

    def test_a_lost_host_is_booted_again(self):
        result, booted = self.run_with([LOST, (0, None)])
        self.assertEqual((result.status, result.crashes, booted), (0, ["a soft lockup"], ["first", "first"]))

    def test_what_is_left_to_do_is_booted_and_kept_to(self):
        rest = mock.Mock(side_effect=["second", None])
        result, booted = self.run_with([LOST, LOST, (0, None)], on_restart=rest)
        self.assertEqual((result.status, booted), (0, ["first", "second", "second"]))
        rest.assert_called_with("a soft lockup")

    def test_it_gives_up_after_so_many(self):
        result, booted = self.run_with([LOST] * 4, max_restarts=3)
        self.assertEqual((result.status, result.restarts, len(booted)), (outer_host.OUTER_LOST, 3, 4))


class DrivesTest(unittest.TestCase):
    HOST = outer_image.OuterHost(kernel=Path("/k"), initramfs=Path("/i"), base=Path("/base"), payload=Path("/payload"), images=Path("/images"),
                                 data=Path("/data"), debian=Path("/debian"))

    def drives(self, devices: str) -> dict[str, str]:
        """File -> its -drive."""
        request, throttle = outer_host.Request(devices=devices), Throttle(devices, Path("/qmp"))
        pipes = {port: (0, 0) for port in outer_host.PORTS}
        line = outer_host._command_line(self.HOST, request, Path("/scratch"), Path("/swap"), Path("/console"), pipes, throttle)
        drives = [line[at + 1] for at, word in enumerate(line) if word == "-drive"]
        return {drive.split(",")[0].removeprefix("file="): drive for drive in drives}

    def test_swap_and_guests_disks_are_slowed_down_and_the_testbeds_own_are_not(self):
        slow = [file for file, drive in self.drives("nvme").items() if "throttling.group=device" in drive]
        self.assertEqual(slow, ["/scratch", "/swap", "/data", "/debian"])

    def test_nothing_is_slowed_down_for_cases_and_the_comparison_of_vmms(self):
        self.assertFalse([drive for drive in self.drives(outer_host.Request().devices).values() if "throttling" in drive])


if __name__ == "__main__":
    unittest.main()

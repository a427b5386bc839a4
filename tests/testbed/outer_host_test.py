"""What is done when the emulated outer host is lost: which one is booted then, and how often."""

import contextlib
import io
import signal
import sys
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

from builder import outer_host  # noqa: E402

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


if __name__ == "__main__":
    unittest.main()

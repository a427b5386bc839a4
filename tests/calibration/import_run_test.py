# SPDX-License-Identifier: Apache-2.0
"""The compact record of a run: when its clock begins, how dense its rows are, and whose demand began when."""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

import import_run  # noqa: E402

MIB = 1 << 20


def guest(use: int) -> dict:
    return {"actual": 2048 * MIB, "target": 1024 * MIB, "used": use * MIB, "rss": use * MIB}


def demo() -> dict:
    """A run of ten samples, one each second from 85 s on, in which A loads from the sixth on."""
    samples = [{"event": "sample", "t": 85.0 + at, "phase": "only", "host": {"free": 0, "swap_in_pages": 0, "swap_out_pages": 0},
                "guests": {"A": guest(200 + 100 * max(0, at - 4)), "B": guest(200)}} for at in range(10)]
    loads = {"demands": 1, "satisfied": 1, "p50_seconds": 3.0, "max_seconds": 3.0}
    figures = {"fits": True, "load_satisfaction": loads, "read_satisfaction": {"p50_seconds": None}, "moved_gib": 0,
               "host_swap_in_pages": 0, "host_swap_out_pages": 0}
    return {"scenario": "s", "where": "here",
            "runs": {"balloond": {"figures": {"phases": {"only": figures}}, "series": samples}}}


class ImportRunTest(unittest.TestCase):
    def imported(self, *options: str) -> tuple[dict, str]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "demo.json"
            path.write_text(json.dumps(demo()))
            out, said = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said), \
                    mock.patch.object(sys, "argv", ["import_run.py", *options, str(path)]):
                self.assertEqual(import_run.main(), 0)
        return json.loads(out.getvalue()), said.getvalue()

    def test_the_first_sample_is_the_lead_after_the_begin(self):
        record, said = self.imported("--lead", "16")
        self.assertEqual(record["rows"][0][0], 16)
        self.assertEqual((record["phases"][0]["from"], record["phases"][0]["to"]), (16, 25))
        self.assertIn("A grows from 21 s", said)

    def test_without_a_lead_the_first_sample_is_the_begin(self):
        record, _ = self.imported()
        self.assertEqual(record["rows"][0][0], 0)

    def test_rows_are_as_dense_as_asked_for(self):
        self.assertEqual([row[0] for row in self.imported()[0]["rows"]], [0, 2, 4, 6, 8])
        self.assertEqual([row[0] for row in self.imported("--every", "5")[0]["rows"]], [0, 5])

    def test_each_row_has_each_guests_figures_in_mib(self):
        record, _ = self.imported()
        row = dict(zip(record["columns"], record["rows"][-1]))
        self.assertEqual([row["A.size"], row["A.target"], row["A.used"], row["B.used"]], [2048, 1024, 600, 200])


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""A run's report: one page that needs nothing else, with all that it is to show."""

import json
import re
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report import page, record  # noqa: E402

HERE = Path(__file__).resolve().parent
MOST_BYTES = 1_000_000


def written(data: dict) -> str:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "report.html"
        page.write(file, data)
        return file.read_text()


def data_of(text: str) -> dict:
    return json.loads(re.search(r"^const data=(.*);$", text, re.MULTILINE)[1].replace("<\\/", "</"))


class PageTest(unittest.TestCase):
    def setUp(self):
        self.events = record.read(HERE / "timelines/quick.jsonl").events
        self.run_ = page.run_of("demo", "with balloond", "", self.events)

    def test_it_needs_nothing_from_a_network_or_beside_it(self):
        text = written(page.page_of("demo", "six guests", [self.run_], []))
        self.assertNotRegex(text, r"https?:|\bsrc=|<link|@import|url\(")
        self.assertLess(len(text), MOST_BYTES)

    def test_each_guest_has_what_it_was_given_and_what_it_needed_at_each_time(self):
        samples = [event for event in self.events if event["event"] == "sample"]
        self.assertEqual([guest["name"] for guest in self.run_["guests"]], sorted(samples[0]["guests"]))
        for guest in self.run_["guests"]:
            self.assertEqual(guest["given"], [round(sample["guests"][guest["name"]]["actual"] / 2**20) for sample in samples])
            self.assertEqual(guest["demand"], [round(sample["guests"][guest["name"]]["need"] / 2**20) for sample in samples])
        self.assertEqual(self.run_["host_total"], round(samples[0]["host"]["total"] / 2**20))

    def test_guests_stay_below_the_host_s_line(self):
        # They boot with more than the host has; once they are settled they fit.
        last = [guest["given"][-1] for guest in self.run_["guests"]]
        self.assertLess(sum(last), self.run_["host_total"])

    def test_phases_and_what_happened_stand_beside_the_curves(self):
        self.assertEqual([phase["name"] for phase in self.run_["phases"]], ["warm-up", "phase-1", "phase-2", "phase-3"])
        self.assertTrue(all(phase["to"] > phase["from"] for phase in self.run_["phases"]))
        self.assertTrue(any("load 640M" in event["text"] and event["guest"] == "D" for event in self.run_["events"]))

    def test_without_a_controller_a_guest_is_given_what_it_holds_and_demands_what_was_swapped_too(self):
        self.assertEqual(page.given({"rss": 100 << 20, "swap": 20 << 20}), 100)
        self.assertEqual(page.demand({"rss": 100 << 20, "swap": 20 << 20}), 120)
        self.assertIsNone(page.given({"alive": False}))

    def test_a_long_run_is_thinned_and_keeps_its_length(self):
        host = {"total": 8 << 30, "free": 1 << 30, "swap_used": 0}
        events = [{"event": "sample", "t": float(t), "host": host, "guests": {f"g{i}": {"actual": 1 << 30, "need": 1 << 29} for i in range(40)}}
                  for t in range(20_000)]
        run = page.run_of("long", "x", "", events)
        self.assertLessEqual(len(run["time"]), page.MOST_SAMPLES)
        self.assertGreater(run["time"][-1], 19_900)
        self.assertLess(len(written(page.page_of("long", "", [run], []))), MOST_BYTES)

    def test_what_guests_say_cannot_leave_the_data(self):
        self.run_["events"].append({"at": 1, "guest": "A", "text": "</script><b>"})
        text = written(page.page_of("demo", "", [self.run_], []))
        self.assertEqual(text.count("</script>"), 1)
        self.assertEqual(data_of(text)["runs"][0]["events"][-1]["text"], "</script><b>")

    def test_a_run_without_a_sample_has_no_curves(self):
        self.assertIsNone(page.run_of("demo", "x", "", [{"event": "failed", "t": 1.0, "reason": "no boot"}]))


if __name__ == "__main__":
    unittest.main()

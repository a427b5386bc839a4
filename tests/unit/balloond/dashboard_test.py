"""The shipped Grafana dashboard asks only for metrics that the daemon has, and can be imported."""

import json
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
METRICS = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))


class DashboardTest(unittest.TestCase):
    def setUp(self):
        self.dashboard = json.loads((ROOT / "dashboards/balloond.json").read_text())

    def test_every_metric_exists(self):
        for panel in self.dashboard["panels"]:
            for target in panel["targets"]:
                for name in re.findall(r"balloond?_[a-z_]+", target["expr"]):
                    self.assertIn(re.sub(r"_(bucket|sum|count)$", "", name) if name not in METRICS else name, METRICS, f"panel {panel['title']!r}")

    def test_panels_have_a_unit_a_description_and_a_place_of_their_own(self):
        taken = set()
        for panel in self.dashboard["panels"]:
            self.assertTrue(panel["description"], panel["title"])
            self.assertTrue(panel["fieldConfig"]["defaults"]["unit"], panel["title"])
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            self.assertFalse(taken & cells, f"panel {panel['title']!r} lies on another")
            self.assertLessEqual(place["x"] + place["w"], 24, "Grafana's grid has 24 columns")
            taken |= cells

    def test_panel_ids_are_unique(self):
        ids = [panel["id"] for panel in self.dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))


if __name__ == "__main__":
    unittest.main()

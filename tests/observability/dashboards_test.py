# SPDX-License-Identifier: Apache-2.0
"""The shipped dashboards and rules: made from one source, complete, and asking only for what the daemon exports."""
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

import queries
from queries import DASHBOARDS, GRAFANA, ROOT, RULES, dashboards, panels, rules

# Exported, and in no panel and no rule: why.
NOT_SHOWN = {
    "balloon_config_last_reload_success_timestamp_seconds": "the time of a reload is in the log; whether it was taken is shown",
    "balloon_config_reloads_total": "whether the newest was taken is shown",
    "balloon_host_memory_pressure_full_ratio": "its counter is shown as a rate",
    "balloon_needs_failing": "what guests needed goes on in memory meanwhile; the log says why it cannot be written",
    "balloon_shadow_decisions_total": "there only with a shadow policy",
    "balloon_shadow_different_decisions_total": "there only with a shadow policy",
    "grpc_server_started_total": "calls that ended are shown; streams do not end",
    "process_virtual_memory_bytes": "gRPC reserves much that it never touches; what is resident is shown",
}


class MadeFromOneSourceTest(unittest.TestCase):
    def test_json_is_what_jsonnet_makes_of_the_source(self):
        with tempfile.TemporaryDirectory() as made:
            subprocess.run([ROOT / "scripts/make-dashboards.sh", made], check=True)
            fresh = {file.name: file.read_text() for file in Path(made).iterdir()}
        kept = {file.name: file.read_text() for file in GRAFANA.glob("*.json")}
        self.assertEqual(sorted(kept), sorted(fresh))
        for name, text in fresh.items():
            self.assertEqual(kept[name], text, f"{name}: run scripts/make-dashboards.sh")

    def test_sources_are_formatted(self):
        for file in [*DASHBOARDS.glob("*.jsonnet"), *DASHBOARDS.glob("lib/*.libsonnet")]:
            self.assertEqual(subprocess.run(["jsonnetfmt", "--test", file]).returncode, 0, f"jsonnetfmt -i {file}")


class DashboardTest(unittest.TestCase):
    def test_there_is_one_for_the_fleet_a_host_a_guest_the_controller_and_reservations(self):
        self.assertEqual(sorted(dashboards()), ["controller", "fleet", "guest", "host", "reservations"])

    def test_each_leads_to_the_others_and_keeps_what_was_chosen(self):
        for name, dashboard in dashboards().items():
            with self.subTest(name):
                self.assertEqual(dashboard["uid"], f"balloond-{name}")
                self.assertIn("balloond", dashboard["tags"])
                link = dashboard["links"][0]
                self.assertEqual((link["type"], link["tags"], link["includeVars"], link["keepTime"]), ("dashboards", ["balloond"], True, True))
                self.assertEqual(dashboard["graphTooltip"], 1, "one crosshair over all panels")
                self.assertIsNone(dashboard["id"])

    def test_every_link_leads_to_a_dashboard_that_there_is(self):
        known = {dashboard["uid"] for dashboard in dashboards().values()}
        links = re.findall(r'"url": "/d/([\w-]+)/', "".join(file.read_text() for file in GRAFANA.glob("*.json")))
        self.assertGreater(len(links), 5)
        self.assertLessEqual(set(links), known)

    def test_variables_go_from_job_to_host_to_guest(self):
        names = {name: [variable["name"] for variable in dashboard["templating"]["list"]] for name, dashboard in dashboards().items()}
        self.assertEqual(names["fleet"], ["datasource", "job", "instance"])
        self.assertEqual(names["host"], ["datasource", "job", "instance"])
        self.assertEqual(names["guest"], ["datasource", "job", "instance", "guest"])
        by_name = {variable["name"]: variable for variable in dashboards()["guest"]["templating"]["list"]}
        self.assertIn('job="$job",instance="$instance"', by_name["guest"]["definition"])
        self.assertIn('job="$job"', by_name["instance"]["definition"])

    def test_every_query_keeps_hosts_apart(self):
        for name, dashboard in dashboards().items():
            for panel in panels(dashboard):
                for target in panel["targets"]:
                    for metric, labels in queries.labels_in(target["expr"]).items():
                        self.assertLessEqual({"job", "instance"}, labels, f"{name}: {panel['title']}: {metric}")
                    self.assertEqual(set(queries.labels_in(target["expr"])), queries.names_in(target["expr"]), "a metric without labels")

    def test_panels_have_a_title_a_description_a_unit_and_a_place_of_their_own(self):
        for name, dashboard in dashboards().items():
            taken: set[tuple[int, int]] = set()
            ids = [panel["id"] for panel in dashboard["panels"]]
            self.assertEqual(len(ids), len(set(ids)))
            for panel in dashboard["panels"]:
                place = panel["gridPos"]
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
                self.assertFalse(taken & cells, f"{name}: {panel['title']!r} lies on another")
                self.assertLessEqual(place["x"] + place["w"], 24, "Grafana's grid has 24 columns")
                taken |= cells
                if panel["type"] != "row":
                    self.assertTrue(panel["title"] and panel["description"], panel["title"])
                    self.assertTrue(panel["fieldConfig"]["defaults"]["unit"], panel["title"])
                    self.assertEqual(panel["datasource"]["uid"], "${datasource}")

    def test_sizes_have_binary_units(self):
        for name, dashboard in dashboards().items():
            for panel in panels(dashboard):
                unit = panel["fieldConfig"]["defaults"]["unit"]
                self.assertNotIn(unit, ("decbytes", "Bps", "decmbytes"), f"{name}: {panel['title']}")
                expr = panel["targets"][0]["expr"]
                if re.search(r"_bytes\b", expr) and not re.search(r"[/]|ratio", expr):
                    self.assertIn(unit, ("bytes", "binBps"), f"{name}: {panel['title']}")


class ExportedTest(unittest.TestCase):
    def setUp(self):
        self.families = queries.exported()
        self.recorded = {rule["record"] for rule in rules() if "record" in rule}

    def test_the_table_of_metrics_was_read(self):
        self.assertGreater(len(self.families), 70)

    def test_every_metric_of_a_panel_or_rule_is_exported_or_recorded(self):
        for place, expr in queries.all_queries().items():
            for name in queries.names_in(expr) - {"up", "ALERTS"} - self.recorded:
                self.assertIn(queries.family_of(name, self.families), self.families, f"{place}: {name}")

    def test_every_label_that_is_asked_for_is_exported(self):
        for place, expr in queries.all_queries().items():
            for name, labels in queries.labels_in(expr).items():
                if name in self.recorded or name in ("up", "ALERTS"):
                    continue
                known = self.families[queries.family_of(name, self.families)] | {"job", "instance"}
                self.assertLessEqual(labels, known, f"{place}: {name}")

    def test_a_typing_error_is_noticed(self):
        self.assertEqual(queries.names_in('sum(balloon_gusts{job="x"}) / rate(balloon_host_state[5m])'), {"balloon_gusts", "balloon_host_state"})
        self.assertNotIn("balloon_gusts", self.families)
        self.assertEqual(queries.labels_in('balloon_guests{job="x",sate="stuck"}'), {"balloon_guests": {"job", "sate"}})

    def test_every_family_is_in_a_panel_or_a_rule_or_there_is_a_reason(self):
        shown = {queries.family_of(name, self.families) for expr in queries.all_queries().values() for name in queries.names_in(expr)}
        missing = set(self.families) - shown
        self.assertEqual(sorted(missing - set(NOT_SHOWN)), [])
        self.assertEqual(sorted((set(NOT_SHOWN) & shown)), [], "they are shown: their reasons are no longer needed")

    def test_prometheus_parses_every_query(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            yaml.safe_dump({"groups": [{"name": "all", "rules": [
                {"record": f"query:{i}", "expr": expr} for i, expr in enumerate(queries.all_queries().values())]}]}, file)
            said = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True)
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)


class RulesTest(unittest.TestCase):
    def test_promtool_has_no_complaint(self):
        said = subprocess.run(["promtool", "check", "rules", *RULES], capture_output=True, text=True)
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
        self.assertEqual(len(RULES), 2)

    def test_prometheus_takes_the_shipped_configuration(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            text = (DASHBOARDS / "prometheus/prometheus.yml").read_text()
            installed = "/usr/share/balloond/prometheus"
            self.assertIn(installed, text)
            file.write(text.replace(installed, str(DASHBOARDS / "prometheus")))
            file.flush()
            said = subprocess.run(["promtool", "check", "config", file.name], capture_output=True, text=True)
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
        self.assertIn("2 rule files found", said.stdout)

    def test_provisioning_names_where_dashboards_are_installed(self):
        packaging = (ROOT / "packaging/CMakeLists.txt").read_text()
        provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/balloond.yaml").read_text())["providers"][0]
        self.assertEqual(provider["options"]["path"], "/usr/share/balloond/grafana")
        self.assertIn("dashboards/grafana dashboards/prometheus", " ".join(packaging.replace("${PROJECT_SOURCE_DIR}/", "").split()))
        source = yaml.safe_load((GRAFANA / "provisioning/datasources/balloond.yaml").read_text())["datasources"][0]
        scrape = yaml.safe_load((DASHBOARDS / "prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
        self.assertEqual(source["jsonData"]["timeInterval"], scrape)

    def test_each_alert_has_a_severity_a_summary_and_a_runbook_that_there_is(self):
        alerts = [rule for rule in rules() if "alert" in rule]
        self.assertGreater(len(alerts), 12)
        for alert in alerts:
            with self.subTest(alert["alert"]):
                self.assertIn(alert["labels"]["severity"], ("critical", "warning"))
                self.assertTrue(alert["annotations"]["summary"] and alert["annotations"]["description"])
                runbook = alert["annotations"]["runbook_url"].removeprefix("file:///usr/share/doc/balloond/")
                page = (ROOT / runbook).read_text()
                self.assertIn(alert["alert"], page.splitlines()[0])
                for heading in ("## What it means", "## What to look at", "## What to do"):
                    self.assertIn(heading, page)

    def test_each_runbook_is_of_an_alert(self):
        named = {Path(rule["annotations"]["runbook_url"]).name for rule in rules() if "alert" in rule}
        self.assertEqual({file.name for file in (ROOT / "docs/runbooks").glob("*.md")} - {"README.md"}, named)


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""The shipped dashboards and rules, and every query in them."""
import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "dashboards"
GRAFANA = DASHBOARDS / "grafana"
RECORDING = DASHBOARDS / "prometheus/recording.rules.yml"
RULES = sorted((DASHBOARDS / "prometheus").glob("*.rules.yml"))
# Words of PromQL that are written like names of metrics.
NAME = re.compile(r"(?<![\w:\"$])((?:balloond?|process|grpc_server)[_:][\w:]+|up|ALERTS)(?![\w:\"(])")
# Of a histogram, Prometheus' text format has these.
PARTS = re.compile(r"_(bucket|sum|count)$")


def dashboards() -> dict[str, dict]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(GRAFANA.glob("*.json"))}


def panels(dashboard: dict) -> list[dict]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def rules() -> list[dict]:
    return [rule for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def filled(expr: str, **variables: str) -> str:
    """With a value for each of Grafana's variables."""
    values = {"__rate_interval": "1m", "__range": "1h", "__interval": "15s", "job": "balloond", "instance": ".+", "guest": ".+", **variables}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expr)


def all_queries() -> dict[str, str]:
    """By where each stands."""
    found = {}
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                found[f"{name}: {panel['title']}: {target['refId']}"] = filled(target["expr"])
        for annotation in dashboard["annotations"]["list"]:
            found[f"{name}: annotation {annotation['name']}"] = filled(annotation["expr"])
        for variable in dashboard["templating"]["list"]:
            query = variable.get("definition", "")
            if selector := re.match(r"label_values\((.+), \w+\)$", query):
                found[f"{name}: variable {variable['name']}"] = filled(selector[1])
    for rule in rules():
        name = rule.get("alert") or rule["record"]
        found[f"rule {name}"] = rule["expr"]
        for text in rule.get("annotations", {}).values():
            for query in re.findall(r'query \(printf "(.*?)" ', text):
                found[f"rule {name}: annotation"] = query.replace("%q", '"x"')
    return found


def names_in(expr: str) -> set[str]:
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expr)))


def labels_in(expr: str) -> dict[str, set[str]]:
    """By metric, the labels that it is asked for by."""
    asked: dict[str, set[str]] = {}
    for name, selector in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expr):
        asked.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
    return asked


def exported() -> dict[str, set[str]]:
    """By family, its labels: docs/metrics.md is made from what the daemon exports (MetricsTest)."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) | ({"le"} if kind == "histogram" else set()) for name, kind, labels in rows}


def family_of(name: str, families: dict[str, set[str]]) -> str:
    return name if name in families else PARTS.sub("", name)

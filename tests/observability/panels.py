# SPDX-License-Identifier: Apache-2.0
"""What Prometheus answers to each query of each panel."""
import re
from collections.abc import Iterator
from typing import Any

import queries
from prometheus import Prometheus

# Panels that are empty while all is well.
EMPTY_WHEN_WELL = {
    "fleet: Who should leave", "reservations: Who should leave", "host: What guests lack and who could leave: C",
    "guest: annotation Out of memory",
}

Series = list[dict[str, Any]]


def answers(prometheus: Prometheus, chosen: dict[str, str], start: int, end: int, step: int) -> Iterator[tuple[str, dict, dict, Series]]:
    """Where each query stands, its panel, the query, and the series that Prometheus answers with. `chosen`: the dashboards' variables."""
    for name, dashboard in queries.dashboards().items():
        for panel in queries.panels(dashboard):
            for target in panel["targets"]:
                expr = queries.filled(target["expr"], **{**chosen, **({"instance": ".+"} if name in ("fleet", "reservations") else {})})
                series = (prometheus.ask("query", query=expr, time=end) if target["instant"] else
                          prometheus.ask("query_range", query=expr, start=start, end=end, step=step))
                yield f"{name}: {panel['title']}", panel, target, series


def may_be_empty(place: str, target: dict) -> bool:
    return place in EMPTY_WHEN_WELL or f"{place}: {target['refId']}" in EMPTY_WHEN_WELL


def values(one: dict[str, Any]) -> list[float]:
    return [float(value) for _, value in one.get("values", [one.get("value")])]


def labels_of_legend(target: dict) -> list[str]:
    return re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])

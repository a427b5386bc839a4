# SPDX-License-Identifier: Apache-2.0
"""A day of two simulated hosts in a real Prometheus, and each dashboard as Grafana's own components draw it.

Called by scripts/draw-dashboards.sh, which has put all that it needs into its working directory.
"""
import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests/observability"))
import history  # noqa: E402
import queries  # noqa: E402
from prometheus import Prometheus, write_past, write_recorded  # noqa: E402

DAY = 24 * 3600
STEP = 60  # seconds between scrapes
START = 1_760_400_000 // DAY * DAY  # midnight of a day in October 2025
WIDTH = 1600
CHOSEN = {"job": "balloond", "instance": "host-1:9477", "guest": "web-1", "__rate_interval": f"{4 * STEP}s", "__range": "24h",
          "__interval": f"{STEP}s"}
# They are empty when all is well, or when the day had none of it.
MAY_BE_EMPTY = {"Who should leave"}


def legend_of(pattern: str, labels: dict[str, str]) -> str:
    if pattern:
        return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), pattern)
    return labels.get("__name__", ", ".join(labels.values()) or "value")


def at_each_step(values: list, start: int, end: int, step: int) -> list:
    """As Grafana makes it of what Prometheus answers: where a series has no value, its line is interrupted."""
    known = {round(at): value for at, value in values}
    return [[at, known.get(at, "NaN")] for at in range(start, end + 1, step)]


def annotations(dashboard: dict, prometheus: Prometheus) -> list[dict]:
    """When each begins, and in which colour."""
    marks = []
    for annotation in dashboard["annotations"]["list"]:
        for one in prometheus.ask("query_range", query=queries.filled(annotation["expr"], **CHOSEN), start=START + 600, end=START + DAY - STEP, step=STEP):
            times = [round(at) for at, _ in one["values"]]
            marks += [{"at": at, "color": annotation["iconColor"]} for at in times if at - STEP not in times]
    return marks


def answers(panel: dict, many: bool, prometheus: Prometheus) -> list[dict]:
    found = []
    for target in panel.get("targets", []):
        expr = queries.filled(target["expr"], **{**CHOSEN, **({"instance": ".+"} if many else {})})
        end = START + DAY - STEP
        if target["instant"]:
            # In the afternoon, when there is most to see.
            series = [{"metric": one["metric"], "values": [one["value"]]} for one in prometheus.ask("query", query=expr, time=START + 15.5 * 3600)]
        else:
            start, step = START + 600, 240
            series = [{"metric": one["metric"], "values": at_each_step(one["values"], start, end, step)}
                      for one in prometheus.ask("query_range", query=expr, start=start, end=end, step=step)]
        found.append({"refId": target["refId"], "instant": target["instant"], "series": [
            {"legend": legend_of(target["legendFormat"], one["metric"]), "labels": one["metric"], "values": one["values"]} for one in series]})
    return found


def draw(name: str, dashboard: dict, prometheus: Prometheus, work: Path, out: Path) -> list[str]:
    many = 'instance=~"$instance"' in json.dumps(dashboard).replace('\\"', '"')
    drawn = [{"panel": {**panel, "mayBeEmpty": panel["title"] in MAY_BE_EMPTY}, "answers": answers(panel, many, prometheus)} for panel in dashboard["panels"]]
    page = {"title": dashboard["title"] + ("" if many else f": {CHOSEN['instance']}") + (f", {CHOSEN['guest']}" if name == "guest" else ""),
            "width": WIDTH, "from": START, "to": START + DAY, "drawn": drawn, "annotations": annotations(dashboard, prometheus),
            "links": [link["title"] for link in dashboard["links"]]}
    height = 48 + 38 * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    html = work / f"{name}.html"
    html.write_text('<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="bundle.css"><body style="margin:0;background:#111217">'
                    f'<div id="root"></div><script>window.page={json.dumps(page)}</script><script src="bundle.js"></script>')
    common = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=20000",
              "--allow-file-access-from-files", f"--user-data-dir={work / 'chromium'}", f"--window-size={WIDTH},{height}"]
    picture = work / f"{name}.png"
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    subprocess.run([*common, f"--screenshot={picture}", html.as_uri()], check=True, **quiet)
    said = subprocess.run([*common, "--dump-dom", html.as_uri()], check=True, **quiet).stdout
    title = re.search(r"<title>(.*?)</title>", said)
    problems = json.loads(title[1].replace("&quot;", '"')) if title else ["the page was not drawn"]
    subprocess.run(["pngquant", "--force", "--speed", "1", "--output", out / f"dashboard-{name}.png", "40", picture], check=True)
    return [f"{name}: {problem}" for problem in problems]


def main() -> None:
    work, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    history.EVERY = STEP
    hosts = {f"host-{number}:9477": history.run(HERE / f"day-{number}.yaml", "--start", str(START)) for number in (1, 2)}
    for host in hosts.values():
        # The program that made the day was started today.
        host.values["process_start_time_seconds", ()] = [float(START)] * len(host.times)
    write_past(work, hosts)
    write_recorded(work, queries.RECORDING, START, START + DAY, STEP)
    with Prometheus(work, STEP) as prometheus:
        problems = [problem for name, dashboard in queries.dashboards().items() for problem in draw(name, dashboard, prometheus, work, out)]
    for problem in problems:
        print("draw:", problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Which of the shipped alerts fire on what balloond exported.

  /usr/bin/python3 tests/observability/alerts.py FILE    of a run in the testbed (runner/scrapes.py), in words"""
import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import history
import queries
import yaml

JOB = "balloond"
# What else the machine does may set these off, however well balloond does its work: it leaves the daemon no CPU time.
OF_THE_MACHINE = ("BalloonLoopLate", "BalloonLoopStandsStill")


@functools.cache
def needed() -> frozenset[str]:
    """What rules ask for: the rest of a page need not be kept."""
    return frozenset(name for rule in queries.rules() for name in queries.names_in(rule["expr"]))


def names() -> list[str]:
    return [rule["alert"] for rule in queries.rules() if "alert" in rule]


def promtool(series: list[dict], expectations: list[dict]) -> str:
    """Its complaints: empty when all that is expected is so."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "test.yml"
        file.write_text(yaml.safe_dump({
            "rule_files": [str(rules) for rules in queries.RULES],
            "evaluation_interval": f"{history.EVERY}s",
            "tests": [{"interval": f"{history.EVERY}s", "input_series": series, "promql_expr_test": expectations}]}))
        said = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
    return "" if said.returncode == 0 else said.stdout + said.stderr


def complaints_unless_quiet(of: history.History, alerts: str = ".+") -> str:
    """What promtool complains of unless none of the alerts fired at any time."""
    last = f"{(len(of.times) - 1) * history.EVERY}s"
    return promtool(history.input_series(of, JOB, "quiet"), [
        {"expr": f'count(count_over_time(ALERTS{{alertstate="firing",alertname=~"{alerts}"}}[{last}]))', "eval_time": last, "exp_samples": []}])


def fired(of: history.History) -> list[str]:
    """At any time."""
    return [name for name in names() if complaints_unless_quiet(of, name)] if complaints_unless_quiet(of) else []


def of_run(file: Path) -> history.History:
    """By the quick day: guests that press for two minutes there may do so for ten on a machine that has much else to do."""
    with file.open() as pages:
        return history.read(pages, set(needed()), quick=True).evenly()


def in_words(run: history.History) -> str:
    found = fired(run)
    of_the_machine = [name for name in found if name in OF_THE_MACHINE]
    others = [name for name in found if name not in OF_THE_MACHINE]
    late = f"; and {', '.join(of_the_machine)}: this machine had too little CPU time for the daemon" if of_the_machine else ""
    return (", ".join(others) or "none") + late


if __name__ == "__main__":
    print(in_words(of_run(Path(sys.argv[1]))))

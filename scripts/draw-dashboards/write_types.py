# SPDX-License-Identifier: Apache-2.0
"""Writes each dashboard as TypeScript whose types are Grafana's own (@grafana/schema): a compiler then holds one to the other.

Called by scripts/draw-dashboards.sh, which has put the compiler and the types into the working directory that it is given.
"""
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/observability"))
import queries  # noqa: E402

RAW = "../node_modules/@grafana/schema/dist/types/raw"
# By type of panel: where its options are described, and whether each field has options of its own.
KINDS = {"timeseries": ("timeseries", True), "stat": ("stat", False), "state-timeline": ("statetimeline", True), "table": ("table", False)}
HEAD = f"""import type {{ Dashboard, Panel, RowPanel }} from '{RAW}/dashboard/x/types.gen';
// A word of JSON is no member of an enumeration, though it has its value.
type Loose<T> = T extends string ? `${{T}}` : T extends (infer U)[] ? Loose<U>[] : T extends object ? {{ [K in keyof T]: Loose<T[K]> }} : T;
"""


def imports() -> str:
    lines = [f"import type {{ Options as {name}Options }} from '{RAW}/composable/{name}/panelcfg/x/types.gen';" for name, _ in KINDS.values()]
    lines += [f"import type {{ FieldConfig as {name}Field }} from '{RAW}/composable/{name}/panelcfg/x/types.gen';" for name, own in KINDS.values() if own]
    return "\n".join(lines) + "\n"


def typed(dashboard: dict) -> str:
    lines = [HEAD + imports()]

    def add(kind: str, value: object):
        lines.append(f"export const v{len(lines)}: Loose<{kind}> = {json.dumps(value)};")

    for panel in dashboard.pop("panels"):
        if panel["type"] == "row":
            add("RowPanel", panel)
            continue
        name, own = KINDS[panel["type"]]
        add(f"Partial<{name}Options>", panel.pop("options"))
        if own:
            add(f"Partial<{name}Field>", panel["fieldConfig"]["defaults"]["custom"])
        add("Panel", panel)
    # What Prometheus' own plugin adds to variables and annotations is not in the schema.
    for variable in dashboard["templating"]["list"]:
        variable.pop("definition", None)
    for annotation in dashboard["annotations"]["list"]:
        for key in ("expr", "step", "titleFormat", "textFormat", "tagKeys", "useValueForTime"):
            annotation.pop(key)
    add("Dashboard", dashboard)
    return "\n".join(lines) + "\n"


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(exist_ok=True)
    for name, dashboard in queries.dashboards().items():
        (out / f"{name}.ts").write_text(typed(dashboard))


if __name__ == "__main__":
    main()

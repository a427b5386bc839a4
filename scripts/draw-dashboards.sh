#!/usr/bin/env bash
# Draws the dashboards for docs/: a day of two simulated hosts in a real Prometheus, each panel by Grafana's own
# components in headless Chromium. For developers: fetches some 400 MB from npm the first time.
#   scripts/draw-dashboards.sh [DIRECTORY]    writes dashboard-*.png there instead of docs/pictures
# Fails when a panel has no data. Look at what it drew.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  -h | --help) sed -n '2,5s/^# \?//p' "$0"; exit 0 ;;
  -*) echo "draw-dashboards: unknown option '$1'" >&2; exit 2 ;;
esac
out=$(realpath "${1:-docs/pictures}")
work=${XDG_CACHE_HOME:-$HOME/.cache}/balloond-draw
for tool in chromium pngquant prometheus promtool npm; do
  command -v "$tool" >/dev/null || { echo "draw-dashboards: $tool is missing (apt install chromium pngquant prometheus npm)" >&2; exit 1; }
done
cmake --preset release >/dev/null
cmake --build --preset release --target metrics_history >/dev/null
mkdir -p "$work" "$out"

cp scripts/draw-dashboards/package.json scripts/draw-dashboards/page.tsx "$work/"
[ -x "$work/node_modules/.bin/tsc" ] || (cd "$work" && npm install --silent --ignore-scripts --legacy-peer-deps --no-fund --no-audit)
(cd "$work" && node_modules/.bin/esbuild page.tsx --bundle --minify --outfile=bundle.js --jsx=automatic \
  --define:process.env.NODE_ENV='"production"' --loader:.svg=dataurl --loader:.woff2=dataurl --loader:.woff=dataurl --loader:.ttf=dataurl \
  --log-level=error)
echo "draw-dashboards: holding the dashboards to Grafana's own types"
/usr/bin/python3 scripts/draw-dashboards/write_types.py "$work/typed"
(cd "$work" && node_modules/.bin/tsc --noEmit --skipLibCheck --strict --target es2022 --module esnext --moduleResolution bundler typed/*.ts)
echo "draw-dashboards: a day of two hosts, and its pictures"
rm -rf "$work/tsdb" "$work/recorded"
METRICS_HISTORY=build/tests/metrics_history /usr/bin/python3 scripts/draw-dashboards/draw.py "$work" "$out"

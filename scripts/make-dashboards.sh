#!/usr/bin/env bash
# Makes dashboards/grafana/*.json of dashboards/*.jsonnet. A test holds them equal.
#   scripts/make-dashboards.sh [DIRECTORY]    writes there instead
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  -h | --help) sed -n '2,3s/^# \?//p' "$0"; exit 0 ;;
  -*) echo "make-dashboards: unknown option '$1'" >&2; exit 2 ;;
esac
out=${1:-dashboards/grafana}
command -v jsonnet >/dev/null || { echo "make-dashboards: jsonnet is missing: scripts/install-deps.sh" >&2; exit 1; }
for source in dashboards/*.jsonnet; do
  jsonnet "$source" >"$out/$(basename "$source" .jsonnet).json"
done

#!/usr/bin/env bash
# Proves that a change has left balloond's control law as it was, to the byte. Fails at the first byte that differs.
#   scripts/same-law.sh [--seeds N] [--figures] [--recording PATH]... BEFORE [AFTER]
# BEFORE and AFTER are revisions, built in build/revisions, or programs (balloon-sim); AFTER is this tree if it is left out.
#   figures    random hosts (--seeds, 300) and all scenarios give the same figures under both
#   plans      AFTER decides what BEFORE recorded of bursts, builds, misbehaving guests and merging: each plan
#              is the same in every bit
#   --figures  only figures: where recordings of one are of no format that the other reads
#   --recording  a recording, or a directory of them (the demo's journal, say), which AFTER decides again, too
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=300 plans=yes recordings=() programs=()
while [ $# -gt 0 ]; do
  case "$1" in
    --seeds) seeds=$2; shift 2 ;;
    --figures) plans=no; shift ;;
    --recording) recordings+=("$2"); shift 2 ;;
    -h | --help) sed -n '2,9s/^# \?//p' "$0"; exit 0 ;;
    -*) echo "same-law: unknown option '$1'" >&2; exit 2 ;;
    *) programs+=("$1"); shift ;;
  esac
done
[ ${#programs[@]} -eq 1 ] || [ ${#programs[@]} -eq 2 ] || { echo "same-law: which law before? (--help)" >&2; exit 2; }

build() {
  cmake --preset release >/dev/null
  cmake --build --preset release --target balloon-sim >/dev/null
}

before=$(scripts/program-of.sh balloon-sim "${programs[0]}")
if [ ${#programs[@]} -eq 2 ]; then after=$(scripts/program-of.sh balloon-sim "${programs[1]}"); else build && after=$(realpath build/bin/balloon-sim); fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

different() {
  echo "same-law: DIFFERENT: $*" >&2
  exit 1
}

# figures NAME ARGUMENTS...: what both print.
figures() {
  local name=$1
  shift
  "$before" "$@" -o csv >"$out/before.csv" || [ $? -eq 4 ] # 4: a law has less cost than any can have; that is told in both
  "$after" "$@" -o csv >"$out/after.csv" || [ $? -eq 4 ]
  [ -s "$out/before.csv" ] || different "$name: no figures"
  cmp "$out/before.csv" "$out/after.csv" >&2 || different "$name: other figures (balloon-sim $*)"
  echo "same-law: $name: the same $(wc -c <"$out/after.csv") bytes"
}

replayed() { # NAME PATH
  "$after" replay "$2" >"$out/replay" 2>&1 || { cat "$out/replay" >&2; different "$1: other plans"; }
  echo "same-law: $1: $(sed -n 's/^Result: *//p' "$out/replay")"
}

if [ $plans = yes ]; then
  for scenario in s02-single-step s06b-build-aligned s09-uncooperative s10-stale-and-broken s12-ksm-collapse s13-leak s16-oscillator-30s; do
    "$before" run "tests/scenarios/sim/$scenario.yaml" --record "$out/$scenario" >&2
    replayed "$scenario" "$out/$scenario"
  done
  for recording in "${recordings[@]}"; do replayed "$recording" "$recording"; done
fi
figures scenarios compare tests/scenarios/sim/*.yaml tests/scenarios/cases/*.yaml --laws balloond
figures "$seeds random hosts" sweep --seeds "$seeds" --laws balloond

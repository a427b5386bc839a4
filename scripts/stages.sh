#!/usr/bin/env bash
# Sourced by test.sh and nightly.sh: stages, each with a limit in minutes of the quick day (docs/testing.md), which the machine's speed
# stretches. A stage over its limit fails nothing: it is marked, so that it is seen before all of them together are too long.
# SPDX-License-Identifier: Apache-2.0

started=$SECONDS
stage_names=() stage_minutes=() stage_limits=() stage_factors=()
stage_began=$SECONDS stage_factor=1

# How many times as long as alone on a quiet machine work takes here now.
machine_factor() { /usr/bin/python3 tests/testbed/runner/speed.py --below; }

end_stage() {
  [ ${#stage_names[@]} -gt 0 ] || return 0
  local now
  now=$(machine_factor)
  stage_minutes+=("$(awk -v s=$((SECONDS - stage_began)) 'BEGIN { printf "%.1f", s / 60 }')")
  # What it was at both ends stands for what it was between them.
  stage_factors+=("$(awk -v a="$stage_factor" -v b="$now" 'BEGIN { f = (a + b) / 2; printf "%.1f", f < 1 ? 1 : f }')")
  stage_factor=$now
}

# stage LIMIT NAME: what follows belongs to it.
stage() {
  local limit=$1
  shift
  if [ ${#stage_names[@]} -eq 0 ]; then stage_factor=$(machine_factor); else end_stage; fi
  printf '\n== %s (%d s so far) ==\n' "$*" $((SECONDS - started))
  stage_names+=("$*") stage_limits+=("$limit") stage_began=$SECONDS
}

# report_stages TOTAL: how long each took, and all of them, beside the limits.
report_stages() {
  end_stage
  printf '\n%-58s %8s %8s %8s\n' stage minutes limit factor
  local i
  for i in "${!stage_names[@]}"; do
    printf '%s\t%s\t%s\t%s\n' "${stage_names[$i]}" "${stage_minutes[$i]}" "${stage_limits[$i]}" "${stage_factors[$i]}"
  done | awk -F '\t' -v total="$1" '
    { over = $2 > $3 * $4 ? "OVER" : ""; printf "%-58s %8s %8s %8s  %s\n", $1, $2, $3, $4, over; minutes += $2; quick += $2 / $4 }
    END {
      over = quick > total ? "OVER" : ""
      factor = quick > 0 ? minutes / quick : 1
      printf "%-58s %8.1f %8s %8.1f  %s\n", "together", minutes, total, factor, over
    }'
}

#!/usr/bin/env bash
# Runs the fuzz targets for long, with clang's libFuzzer, address and undefined-behaviour sanitizers.
#   scripts/fuzz.sh [SECONDS [TARGET ...]]   SECONDS for each target (default 1200) of tests/fuzz/*_fuzz.cc (default all)
# Says for each how many edges had run after each quarter of its time, and whether any was new in the last.
# Needs clang-19 and libclang-rt-19-dev (scripts/install-deps.sh fuzz). What is found lies in build-fuzz/findings; a finding that is mended
# goes, as hexadecimal text (xxd -p), to tests/fuzz/corpus/TARGET, where every build runs it.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  -h | --help) sed -n '2,6s/^# \?//p' "$0"; exit 0 ;;
esac
seconds=${1:-1200}
[[ $seconds =~ ^[0-9]+$ ]] || { echo "fuzz: '$seconds' is not a number of seconds" >&2; exit 2; }
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in tests/fuzz/*_fuzz.cc; do targets+=("$(basename "$file" .cc)"); done
fi

# What clang 19 calls deprecated is in libstdc++ 12's own std::stable_sort and std::inplace_merge.
cmake -S . -B build-fuzz -G Ninja -DBALLOON_FUZZ=ON -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_COMPILER=clang++-19 \
  -DBALLOON_SANITIZE=address,undefined,fuzzer-no-link -DCMAKE_CXX_FLAGS=-Wno-deprecated-declarations
cmake --build build-fuzz --target "${targets[@]}"
mkdir -p build-fuzz/findings
failed=0
for target in "${targets[@]}"; do
  corpus=build-fuzz/corpus/$target
  log=build-fuzz/$target.log
  mkdir -p "$corpus"
  for file in tests/fuzz/corpus/"$target"/*.hex; do
    [ ! -e "$file" ] || xxd -r -p "$file" "$corpus/$(basename "$file" .hex)"
  done
  # In four quarters, each of which begins with what those before have found: how many edges the code has that ran by then.
  edges=()
  for quarter in 1 2 3 4; do
    build-fuzz/tests/"$target" -max_total_time="$(((seconds + 3) / 4))" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
      -print_final_stats=1 -artifact_prefix="build-fuzz/findings/$target-" "$corpus" >"$log" 2>&1 || break
    edges+=("$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)")
  done
  if [ ${#edges[@]} -lt 4 ]; then
    tail -n 40 "$log" >&2
    echo "fuzz: $target: FOUND something in quarter $quarter: see build-fuzz/findings and $log"
    failed=1
  else
    new=$((edges[3] - edges[2]))
    echo "fuzz: $target: edges ${edges[*]} after each quarter of $seconds s: $([ $new -gt 0 ] && echo "$new new" || echo none new) in the last"
  fi
done
exit $failed

#!/usr/bin/env bash
# Runs the fuzz targets for long, with clang's libFuzzer, address and undefined-behaviour sanitizers.
#   scripts/fuzz.sh [SECONDS [TARGET ...]]   SECONDS for each target (default 1200) of tests/fuzz/*_fuzz.cc (default all)
# Needs clang-19 and libclang-rt-19-dev (scripts/install-deps.sh fuzz). What is found lies in build-fuzz/findings; a finding that is mended
# goes, as hexadecimal text (xxd -p), to tests/fuzz/corpus/TARGET, where every build runs it.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  -h | --help) sed -n '2,5s/^# \?//p' "$0"; exit 0 ;;
esac
seconds=${1:-1200}
[[ $seconds =~ ^[0-9]+$ ]] || { echo "fuzz: '$seconds' is not a number of seconds" >&2; exit 2; }
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in tests/fuzz/*_fuzz.cc; do targets+=("$(basename "$file" .cc)"); done
fi

cmake -S . -B build-fuzz -G Ninja -DBALLOON_FUZZ=ON -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_COMPILER=clang++-19 \
  -DBALLOON_SANITIZE=address,undefined,fuzzer-no-link
cmake --build build-fuzz --target "${targets[@]}"
mkdir -p build-fuzz/findings
failed=0
for target in "${targets[@]}"; do
  corpus=build-fuzz/corpus/$target
  mkdir -p "$corpus"
  for file in tests/fuzz/corpus/"$target"/*.hex; do
    [ ! -e "$file" ] || xxd -r -p "$file" "$corpus/$(basename "$file" .hex)"
  done
  echo "fuzz: $target, $seconds s"
  build-fuzz/tests/"$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="build-fuzz/findings/$target-" "$corpus" || failed=1
done
exit $failed

#!/usr/bin/env bash
# Puts faults back that were mended, one at a time, and asks whether the limits and oracles of their fuzz target find each.
#   scripts/fuzz-faults.sh [SECONDS [FAULT ...]]   SECONDS for each (default 600) of tests/fuzz/faults/*.patch (default all)
# Exit status 1 when one is not found, or its patch does not fit the code any more: then write the patch anew. Its first line names the
# target. The changed code is in a copy of the tree, build-faults/tree.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  -h | --help) sed -n '2,5s/^# \?//p' "$0"; exit 0 ;;
esac
seconds=${1:-600}
[[ $seconds =~ ^[0-9]+$ ]] || { echo "fuzz-faults: '$seconds' is not a number of seconds" >&2; exit 2; }
shift || true
faults=("$@")
if [ ${#faults[@]} -eq 0 ]; then
  for file in tests/fuzz/faults/*.patch; do faults+=("$(basename "$file" .patch)"); done
fi

tree=build-faults/tree build=build-faults/build
mkdir -p "$tree"
# What is the same already is left alone, so that a second run builds little.
while IFS= read -r -d '' name; do
  [ ! -f "$name" ] || cmp --silent "$name" "$tree/$name" || install -D "$name" "$tree/$name"
done < <(git ls-files -z --cached --others --exclude-standard)
cmake -S "$tree" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >/dev/null
missed=0
for fault in "${faults[@]}"; do
  file=tests/fuzz/faults/$fault.patch
  target=$(sed -n '1s/^target: //p' "$file")
  patch --quiet --strip=1 --directory="$tree" <"$file" || { echo "$fault: the patch does not fit the code" >&2; exit 1; }
  cmake --build "$build" --target "$target" >build-faults/"$fault".log || { tail -n 20 build-faults/"$fault".log >&2; exit 1; }
  corpus=()
  for input in tests/fuzz/corpus/"$target"/*.hex; do [ ! -e "$input" ] || corpus+=("$input"); done
  begin=$(date +%s)
  status=0
  "$build/tests/$target" --seconds "$seconds" "${corpus[@]}" >build-faults/"$fault".log 2>&1 || status=$?
  if finding=$(grep --max-count=1 '^fuzz: ' build-faults/"$fault".log); then
    echo "$fault: found by $target after $(($(date +%s) - begin)) s: ${finding#fuzz: }"
  elif [ $status -eq 0 ]; then
    echo "$fault: NOT FOUND by $target in $seconds s"
    missed=1
  else
    echo "$fault: $target ended with status $status, and named no limit or oracle:" >&2
    tail -n 5 build-faults/"$fault".log >&2
    missed=1
  fi
  patch --quiet --reverse --strip=1 --directory="$tree" <"$file"
done
exit $missed

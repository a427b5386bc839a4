#!/usr/bin/env bash
# Runs all tests: installs what they need, builds, checks the form of the code, then unit, KVM and integration tests, the same
# unit tests under address and undefined-behaviour sanitizers, and the testbed (real KVM, real guests).
#   scripts/test.sh            everything
#   scripts/test.sh --fast     without sanitizers and testbed: what to run while developing
# Exits non-zero when anything fails or something needed is missing; nothing is skipped in silence.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

fast=false
case "${1:-}" in
  "") ;;
  --fast) fast=true ;;
  -h | --help) sed -n '2,6s/^# \?//p' "$0"; exit 0 ;;
  *) echo "test: unknown option '$1' (only --fast is known)" >&2; exit 2 ;;
esac

started=$SECONDS
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
broken=()

stage() { printf '\n== %s (%d s so far) ==\n' "$*" $((SECONDS - started)); }
must() { "$@" || { echo "test: '$*' failed; nothing after it can run" >&2; exit 1; }; }
note() { "$@" || broken+=("$*"); }

stage "Installing what the tests need"
must scripts/install-deps.sh
[ -e /dev/kvm ] || { echo "test: /dev/kvm is missing: the VMM's KVM tests need it (any backend will do)" >&2; exit 1; }

stage "Building"
must cmake --preset release
must cmake --build --preset release

stage "Checking the form of the code"
note scripts/lint.sh

stage "Unit, KVM and integration tests"
note ctest --preset release -LE testbed -j "$(nproc)" --output-junit "$results/release.xml"

if ! $fast; then
  stage "Building with address and undefined-behaviour sanitizers"
  must cmake --preset asan
  must cmake --build --preset asan --target unit_tests
  stage "Unit tests with sanitizers"
  note ctest --preset asan -L unit -j "$(nproc)" --output-junit "$results/asan.xml"

  stage "Testbed: real KVM, unmodified Debian guests"
  note ctest --preset release -L testbed --output-junit "$results/testbed.xml"
fi

stage "Done"
passed=0
failed=0
for file in "$results"/*.xml; do
  total=$(sed -n 's/.*<testsuite[^>]* tests="\([0-9]*\)".*/\1/p; s/^\s*tests="\([0-9]*\)".*/\1/p' "$file" | head -1)
  bad=$(sed -n 's/.*<testsuite[^>]* failures="\([0-9]*\)".*/\1/p; s/^\s*failures="\([0-9]*\)".*/\1/p' "$file" | head -1)
  skipped=$(sed -n 's/.*<testsuite[^>]* skipped="\([0-9]*\)".*/\1/p; s/^\s*skipped="\([0-9]*\)".*/\1/p' "$file" | head -1)
  [ "${skipped:-0}" -eq 0 ] || broken+=("$skipped tests skipped themselves: $(basename "$file")")
  passed=$((passed + total - bad))
  failed=$((failed + bad))
done
for what in "${broken[@]}"; do echo "test: FAILED: $what"; done
echo "$passed passed, $failed failed"
[ ${#broken[@]} -eq 0 ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

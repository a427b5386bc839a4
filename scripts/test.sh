#!/usr/bin/env bash
# Runs all tests: installs what they need, builds, checks the form of the code, then KVM and integration tests, unit tests under
# address and undefined-behaviour sanitizers, and the testbed (real KVM, real guests).
#   scripts/test.sh            everything
#   scripts/test.sh --fast     unit tests without sanitizers, and no testbed: what to run while developing
# Exits non-zero when anything fails or something needed is missing; nothing is skipped in silence. How long each stage took stands beside
# its limit at the end. What takes longer runs in scripts/nightly.sh.
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

fast=false
case "${1:-}" in
  "") ;;
  --fast) fast=true ;;
  -h | --help) sed -n '2,7s/^# \?//p' "$0"; exit 0 ;;
  *) echo "test: unknown option '$1' (only --fast is known)" >&2; exit 2 ;;
esac

# shellcheck source=scripts/stages.sh
. scripts/stages.sh
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
broken=()

must() { "$@" || { echo "test: '$*' failed; nothing after it can run" >&2; exit 1; }; }
note() { "$@" || broken+=("$*"); }

stage 3 "Installing what the tests need"
must scripts/install-deps.sh
[ -e /dev/kvm ] || { echo "test: /dev/kvm is missing: the VMM's KVM tests need it (any backend will do)" >&2; exit 1; }

stage 2 "Checking the form of the code"
must cmake --preset release
note scripts/lint.sh

if $fast; then
  stage 10 "Building"
  must cmake --build --preset release --target all host_tests
  stage 3 "clang-tidy on what changed, and mutexes"
  note scripts/lint.sh --tidy
  stage 15 "Unit, KVM and integration tests"
  note ctest --preset release -LE "testbed|nightly" -j "$(nproc)" --output-junit "$results/release.xml"
else
  stage 7 "Building the programs"
  must cmake --build --preset release --target host_tests
  stage 3 "clang-tidy on what changed, and mutexes"
  note scripts/lint.sh --tidy
  stage 13 "KVM and integration tests"
  note ctest --preset release -L "kvm|integration" -j "$(nproc)" --output-junit "$results/release.xml"

  stage 12 "Building with address and undefined-behaviour sanitizers"
  must cmake --preset asan
  must cmake --build --preset asan --target unit_tests
  stage 6 "Unit tests with sanitizers"
  note ctest --preset asan -L unit -j "$(nproc)" --output-junit "$results/asan.xml"

  stage 13 "Testbed: real KVM, unmodified Debian guests"
  # The packages were made by their own tests above.
  note ctest --preset release -L testbed -FS '^packages$' --output-junit "$results/testbed.xml"
fi

report_stages 47
passed=0
failed=0
for file in "$results"/*.xml; do
  counts=$(/usr/bin/python3 - "$file" <<'EOF'
import sys
import xml.etree.ElementTree as ET

suite = ET.parse(sys.argv[1]).getroot()
bad = [case for case in suite.iter("testcase") if case.find("failure") is not None or case.get("status") == "fail"]
skipped = [case for case in suite.iter("testcase") if case.find("skipped") is not None]
for case in bad[:20]:
    print(f"\n-- {case.get('name')} failed:", *(case.findtext("system-out") or "").strip().splitlines()[-30:], sep="\n", file=sys.stderr)
print(int(suite.get("tests")) - len(bad) - len(skipped), len(bad), ",".join(case.get("name") for case in bad + skipped))
EOF
  ) || broken+=("reading $file")
  read -r good bad names <<<"$counts"
  passed=$((passed + good))
  failed=$((failed + bad))
  [ -z "$names" ] || broken+=("$(basename "$file" .xml): $names (failed, or skipped itself)")
done
echo
tests/testbed/run_tests.py --list-nightly
echo "and: Linux' facts against tests/calibration/linux-facts.json; clang-tidy, with its analyzer, on all programs"
for what in "${broken[@]}"; do echo "test: FAILED: $what"; done
echo "$passed passed, $failed failed"
[ ${#broken[@]} -eq 0 ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

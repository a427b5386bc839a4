#!/usr/bin/env bash
# Asks whether tests would notice small changes: makes them one at a time in the code of DIR, runs the tests that reach each, and lists
# those that nothing noticed.
#   scripts/mutate.sh DIR... [--changes N] [--seed S] [--least PERCENT] [--only KIND,...] [--tests LABEL] [-o FILE]
#   --changes  how many, drawn at random from all that can be made (default 200; 0: as many as do not overlap)
#   --seed     which ones are drawn (default 1)
#   --least    exit status 1 when a smaller part than this is noticed (default 85)
#   --only     changes of these kinds (see scripts/mutants/find.py: KINDS)
#   --tests    tests with this CTest label (default unit)
#   --target   what is built for them (default unit_tests)
#   -o         each change and what noticed it, as JSON (default build-mutate/changes.json)
# All changes are built into one program, and an environment variable chooses one. So a run costs one build, and then only the tests.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  -h | --help | "") sed -n '2,12s/^# \?//p' "$0"; [ $# -gt 0 ] || exit 2; exit 0 ;;
esac
/usr/bin/python3 -c 'import clang.cindex' 2>/dev/null || { echo "mutate: python3-clang-19 is missing: scripts/install-deps.sh" >&2; exit 2; }
exec /usr/bin/python3 -B scripts/mutants "$@"

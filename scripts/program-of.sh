#!/usr/bin/env bash
# Prints where PROGRAM of another revision is, and builds it first if need be.
#   scripts/program-of.sh PROGRAM WHICH
# WHICH is a revision, built in build/revisions, or already a program. PROGRAM is balloon-sim or balloon-vmm, say.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in -h | --help) sed -n '2,4s/^# \?//p' "$0"; exit 0 ;; esac
[ $# -eq 2 ] || { echo "program-of: which program, and of which revision? (--help)" >&2; exit 2; }
program=$1 which=$2

if [ -f "$which" ] && [ -x "$which" ]; then
  realpath "$which"
  exit
fi
commit=$(git rev-parse --verify --quiet "$which^{commit}") || { echo "program-of: '$which' is no revision and no program" >&2; exit 2; }
tree=build/revisions/$commit
if [ ! -x "$tree/build/bin/$program" ]; then
  mkdir -p "$tree"
  git archive "$commit" | tar -x -C "$tree"
  "$tree/scripts/install-deps.sh" build >&2  # what that revision needs, which may not be what this one does
  cmake -S "$tree" --preset release >/dev/null
  cmake --build "$tree/build" --target "$program" >&2
fi
realpath "$tree/build/bin/$program"

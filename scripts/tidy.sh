#!/usr/bin/env bash
# Sourced by lint.sh: clang-tidy of the programs, with the checks of .clang-tidy.
# SPDX-License-Identifier: Apache-2.0

# A file that would begin later is left to --tidy-all: CI must not wait for a change of a hundred files.
tidy_seconds=100
# How far back files count as changed, and not beyond this commit: what was there by then is for --tidy-all. A shallow clone may know
# fewer commits; then its oldest has all files.
tidy_commits=50
tidy_after=5862ca8bb4cf6cf1fff67aaa1683d242ce0ecaab
tidy_programs=(base policy vmm balloond)

tidy_one() { # OPTION... FILE
  local file=${*: -1}
  if [ "$(date +%s)" -ge "$TIDY_END" ]; then
    echo "$file" >>"$TIDY_LEFT"
    return 0
  fi
  # Some of GCC's options are not clang's, nor is its precompiled header; and clang's own warnings, some of them about libstdc++, are
  # not what is looked for.
  local options=(--quiet -p build --extra-arg=-Wno-error --extra-arg=-Wno-ignored-gch --extra-arg=-Wno-unknown-warning-option)
  # It counts warnings in the system's headers on standard error, which nobody asked for.
  clang-tidy-19 "${options[@]}" "$@" 2> >(grep -v "warnings\? generated" >&2)
}

# Of the files on standard input, those for which there is time.
tidy() { # SECONDS OPTION...
  local seconds=$1 status=0 left
  shift
  if [ ! -e build/proto/balloon/v1/types.pb.h ]; then
    echo "lint: clang-tidy needs the programs built: cmake --preset release && cmake --build --preset release" >&2
    return 1
  fi
  TIDY_LEFT=$(mktemp)
  TIDY_END=$(($(date +%s) + seconds))
  export TIDY_LEFT TIDY_END
  export -f tidy_one
  # shellcheck disable=SC2016  # for the shells that xargs starts
  xargs -r -n 1 -P "$(nproc)" bash -c 'tidy_one "$@"' tidy "$@" || status=1
  left=$(wc -l <"$TIDY_LEFT")
  rm -f "$TIDY_LEFT"
  [ "$left" -eq 0 ] || step "clang-tidy: no time for $left files more (scripts/lint.sh --tidy-all has them)"
  return $status
}

# What is not committed yet, then the last commits' files, the newest first; of a header, the source beside it. Files of which only
# comments changed are as good as before.
changed_sources() {
  local range=HEAD code='^[[:space:]]*([^[:space:]/]|/[^/])'
  if git cat-file -e "$tidy_after" 2>/dev/null; then range=$tidy_after..HEAD; fi
  { git diff -G"$code" --name-only HEAD -- "${tidy_programs[@]}"
    git log -G"$code" -n "$tidy_commits" --format= --name-only "$range" -- "${tidy_programs[@]}"; } |
    sed -n 's/\.\(cc\|h\)$/.cc/p' | awk '!seen[$0]++' | while read -r file; do
    if [ -e "$file" ]; then echo "$file"; fi
  done
}

# Without the static analyzer, which takes three times as long as all other checks together.
tidy_changed() {
  step "clang-tidy on what changed in the last $tidy_commits commits: $(changed_sources | wc -l) files"
  changed_sources | tidy "$tidy_seconds" --checks='-clang-analyzer-*'
}

tidy_all() {
  step "clang-tidy, with its static analyzer, on all programs"
  git ls-files "${tidy_programs[@]/%//*.cc}" | tidy $((24 * 3600))
}

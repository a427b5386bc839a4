#!/usr/bin/env bash
# Checks the form of everything: C++ formatting, shell scripts, Python, the wire contract, licences, commits.
#   scripts/lint.sh             all but what needs the programs built (cmake --build --preset release):
#   scripts/lint.sh --tidy      clang-tidy on the C++ that changed last, the newest first, for two minutes; mutexes (thread-safety.sh)
#   scripts/lint.sh --tidy-all  clang-tidy with its static analyzer on all programs: some 80 minutes of a CPU; mutexes
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  "" | --tidy | --tidy-all) ;;
  -h | --help) sed -n '2,5s/^# \?//p' "$0"; exit 0 ;;
  *) echo "lint: unknown option '$1' (only --tidy and --tidy-all are known)" >&2; exit 2 ;;
esac

failed=0
step() { echo "lint: $*"; }

end() {
  [ $failed -eq 0 ] && echo "lint: all clean"
  exit $failed
}

if [ -n "${1:-}" ]; then
  # shellcheck source=scripts/tidy.sh
  . scripts/tidy.sh
  if [ "$1" = --tidy ]; then tidy_changed || failed=1; else tidy_all || failed=1; fi
  step "which mutex guards what"
  if [ "$1" = --tidy ]; then scripts/thread-safety.sh || failed=1; else scripts/thread-safety.sh --all || failed=1; fi
  end
fi

step "clang-format"
git ls-files -z '*.cc' '*.h' | xargs -0 clang-format-19 --dry-run --Werror || failed=1

step "shellcheck"
git ls-files -z '*.sh' .ci/run 'packaging/debian/*/p*' 'packaging/completions/*.bash' | xargs -0 shellcheck -x || failed=1

step "flake8"
flake8 || failed=1

# Of the programs. Tests pass doubles where types name what they stand for.
step "mypy"
(cd tests/testbed && mypy --config-file ../../setup.cfg -p runner -p builder -p report) || failed=1
(cd tests/observability && mypy --config-file ../../setup.cfg alerts.py history.py panels.py prometheus.py queries.py) || failed=1
(cd scripts/mutants && mypy --config-file ../../setup.cfg find.py build.py judge.py __main__.py) || failed=1
for file in packaging/man/man_page.py scripts/compare-laws.py tests/calibration/import_run.py examples/scheduler/scheduler.py; do
  mypy --config-file setup.cfg "$file" || failed=1
done

step "buf lint (proto/)"
buf_version=1.75.0
if ! command -v buf >/dev/null; then
  tools=${XDG_CACHE_HOME:-$HOME/.cache}/balloond-tools
  buf=$tools/node_modules/.bin/buf
  [ -x "$buf" ] || npm install --silent --no-fund --no-audit --prefix "$tools" "@bufbuild/buf@$buf_version"
else
  buf=buf
fi
(cd proto && "$buf" lint) || failed=1

# In what is code, whatever its language. Configuration, data and pages are under LICENSE, as all else.
step "licences"
sources() {
  git ls-files '*.cc' '*.h' '*.h.in' '*.ld' '*.proto' '*.py' '*.tsx' '*.jsonnet' '*.libsonnet' '*.scd' '*.sh' '*.bash' '*.cmake' '*CMakeLists.txt'
  git grep -In '^#!' | sed -n 's/^\([^:]*\):1:.*/\1/p'
}
without=$(sources | sort -u | xargs -d '\n' grep -L "SPDX-License-Identifier: Apache-2.0" || true)
if [ -n "$without" ]; then
  awk '{ print $0 ": no line names its licence (SPDX-License-Identifier: Apache-2.0)" }' <<<"$without" >&2
  failed=1
fi

# A subject of 72 characters at most, and a body. Commits up to this one are as they are.
step "commit messages"
last_before=b94e745f957205773c47d0989f9010de06d1631d
range=HEAD
git cat-file -e "$last_before" 2>/dev/null && range=$last_before..HEAD
while read -r commit; do
  subject=$(git log -1 --format=%s "$commit")
  [ ${#subject} -le 72 ] || { echo "$commit: the subject has ${#subject} characters: $subject" >&2; failed=1; }
  [ -n "$(git log -1 --format=%b "$commit")" ] || { echo "$commit: no body says why: $subject" >&2; failed=1; }
done < <(git rev-list --no-merges "$range")

end

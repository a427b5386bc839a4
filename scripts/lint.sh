#!/usr/bin/env bash
# Checks the form of everything: C++ formatting, shell scripts, Python, the wire contract, commits. With --tidy also clang-tidy (slow).
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  "" | --tidy) ;;
  -h | --help) sed -n '2s/^# //p' "$0"; exit 0 ;;
  *) echo "lint: unknown option '$1' (only --tidy is known)" >&2; exit 2 ;;
esac

failed=0
step() { echo "lint: $*"; }

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

if [ "${1:-}" = --tidy ]; then
  # The database has the compiler's own options, some of them not clang's.
  step "clang-tidy (needs build/compile_commands.json: cmake --preset release)"
  git ls-files -z 'base/*.cc' 'policy/*.cc' 'vmm/*.cc' 'balloond/*.cc' |
    xargs -0 -n 4 -P "$(nproc)" clang-tidy-19 --quiet -p build --extra-arg=-Wno-ignored-gch --extra-arg=-Wno-unknown-warning-option || failed=1
fi

[ $failed -eq 0 ] && echo "lint: all clean"
exit $failed

#!/usr/bin/env bash
# Checks the form of everything: C++ formatting, shell scripts, the wire contract. With --tidy also clang-tidy (slow).
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
git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -x || failed=1

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

if [ "${1:-}" = --tidy ]; then
  # The database has the compiler's own options, some of them not clang's.
  step "clang-tidy (needs build/compile_commands.json: cmake --preset release)"
  git ls-files -z 'base/*.cc' 'policy/*.cc' 'vmm/*.cc' 'balloond/*.cc' |
    xargs -0 -n 4 -P "$(nproc)" clang-tidy-19 --quiet -p build --extra-arg=-Wno-ignored-gch --extra-arg=-Wno-unknown-warning-option || failed=1
fi

[ $failed -eq 0 ] && echo "lint: all clean"
exit $failed

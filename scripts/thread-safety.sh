#!/usr/bin/env bash
# Has clang check which mutex guards what (base/mutex.h): it refuses what touches a guarded field without its mutex.
#   scripts/thread-safety.sh           those of the programs' files that have annotations, or include them at first hand
#   scripts/thread-safety.sh --all     all of the programs' files
#   scripts/thread-safety.sh FILE ...  these
# Needs the programs built (cmake --preset release && cmake --build --preset release); BALLOON_BUILD is another build's directory.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

programs=(base vmm balloond)  # policy has no threads
build=${BALLOON_BUILD:-build}

annotated() {
  local headers
  mapfile -t headers < <(git grep -lE '\<(GUARDED_BY|REQUIRES)\(' -- "${programs[@]/%//*.h}")
  git grep -lFe '#include "base/mutex.h"' "${headers[@]/#/-e}" -- "${programs[@]/%//*.cc}"
}

case "${1:-}" in
  -h | --help) sed -n '2,6s/^# \?//p' "$0"; exit 0 ;;
  "") mapfile -t files < <(annotated) ;;
  --all) mapfile -t files < <(git ls-files "${programs[@]/%//*.cc}") ;;
  -*) echo "thread-safety: unknown option '$1' (only --all is known)" >&2; exit 2 ;;
  *) files=("$@") ;;
esac
[ ${#files[@]} -gt 0 ] || { echo "thread-safety: no file has annotations" >&2; exit 1; }
precompiled=$build/CMakeFiles/precompiled.dir/cmake_pch.hxx
if [ ! -e "$precompiled" ] || [ ! -e "$build/compile_commands.json" ]; then
  echo "thread-safety: $build has no build; make one: cmake --preset release && cmake --build --preset release" >&2
  exit 1
fi

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
check=(clang++-19 -std=c++23 -pthread -I. -Wno-everything -Wthread-safety -Werror)
"${check[@]}" -DFMT_SHARED -x c++-header "$precompiled" -o "$made/pch"

# Each file's definitions and directories, a file a line: what of GCC's options means something here.
options() {
  /usr/bin/python3 - "$build/compile_commands.json" "$@" <<'EOF'
import json
import pathlib
import re
import shlex
import sys

entries = {entry["file"]: entry["command"] for entry in json.loads(pathlib.Path(sys.argv[1]).read_text())}
for file in sys.argv[2:]:
    command = entries.get(str(pathlib.Path(file).resolve()), "")
    print(" ".join(re.findall(r"(?<= )(?:-D|-I|-isystem )\S+", command)), shlex.quote(file))
EOF
}
echo "thread-safety: ${#files[@]} files"
options "${files[@]}" | xargs -d '\n' -P "$(nproc)" -I '{}' bash -c "${check[*]} -fsyntax-only -include-pch $made/pch {}"

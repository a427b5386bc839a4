#!/usr/bin/env bash
# Builds the Debian packages of this tree into build/packages, and checks them by lintian.
#   scripts/package.sh              what it made stands on its last lines
#   scripts/package.sh --no-lint    without the check
# Install them with: apt install ./build/packages/*.deb
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

lint=true
case "${1:-}" in
  "") ;;
  --no-lint) lint=false ;;
  -h | --help) sed -n '2,5s/^# \?//p' "$0"; exit 0 ;;
  *) echo "package: unknown option '$1' (only --no-lint is known)" >&2; exit 2 ;;
esac

scripts/install-deps.sh package
# Who configured already keeps that; the packages' prefix is their own.
[ -e build/build.ninja ] || cmake --preset release >/dev/null
cmake --build --preset release --target package_files
rm -rf build/packages
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# In the umask of whoever runs this, directories might be nobody else's.
(umask 022 && cd build && cpack -G DEB) >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
rm -rf build/packages/_CPack_Packages

if $lint; then
  lintian --allow-root --fail-on error,warning --tag-display-limit 0 build/packages/*.deb ||
    { echo "package: lintian complains about the packages" >&2; exit 1; }
fi
for deb in build/packages/*.deb; do
  # shellcheck disable=SC2016  # dpkg-deb's own variables
  echo "$deb  $(dpkg-deb --showformat '${Package} ${Version}, ${Installed-Size} KiB installed' --show "$deb")"
done

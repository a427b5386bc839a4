#!/usr/bin/env bash
# Installs what balloond needs from Debian 12. This is the one list of dependencies.
#   scripts/install-deps.sh          everything: build, tests and testbed
#   scripts/install-deps.sh build    only what compiling needs
#   scripts/install-deps.sh package  and what scripts/package.sh needs
#   scripts/install-deps.sh fuzz     what compiling with clang and its libFuzzer needs (scripts/fuzz.sh)
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

build=(
  g++ cmake ninja-build ccache pkg-config git
  libgrpc++-dev grpc-proto protobuf-compiler-grpc protobuf-compiler libprotobuf-dev
  libyaml-cpp-dev libspdlog-dev libfmt-dev
  libgtest-dev libgmock-dev libbenchmark-dev libcli11-dev nlohmann-json3-dev
  liburing-dev zlib1g-dev libsystemd-dev libvirt-dev libpugixml-dev libsmartcols-dev libncurses-dev
  scdoc python3 dpkg-dev
)
lint=(clang-tidy-19 clang-19 clang-format-19 shellcheck lintian mandoc flake8 mypy systemd python3-clang-19)
fuzz=(clang-19 libclang-rt-19-dev)
# A Node.js installed from elsewhere conflicts with Debian's npm; either will do.
command -v npm >/dev/null || lint+=(npm)
testbed=(
  qemu-system-x86 qemu-utils busybox-static cpio e2fsprogs lz4 xz-utils kmod python3 python3-yaml python3-jsonschema
  python3-grpcio python3-protobuf iproute2 util-linux tmux prometheus jsonnet acpica-tools fio iperf3 pciutils pci.ids ethtool
  mmdebstrap libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients procps
)

case "${1:-all}" in
  build) wanted=("${build[@]}") ;;
  package) wanted=("${build[@]}" lintian) ;;
  all) wanted=("${build[@]}" "${lint[@]}" "${testbed[@]}") ;;
  fuzz) wanted=("${build[@]}" "${fuzz[@]}") ;;
  -h | --help) sed -n '2,6s/^# \?//p' "$0"; exit 0 ;;
  *) echo "install-deps: unknown set '$1' (use 'build', 'package', 'fuzz' or 'all')" >&2; exit 2 ;;
esac

missing=()
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "install-deps: installing ${#missing[@]} Debian packages: ${missing[*]}"
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install-deps: run as root, or install sudo" >&2; exit 1; }
  sudo=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
if ! { "${sudo[@]}" apt-get update -qq && "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; }; then
  echo "install-deps: apt could not install the packages above; it needs Debian 12 and a reachable package mirror" >&2
  exit 1
fi

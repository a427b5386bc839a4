// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/guest_room.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "balloond/host/pseudo_file.h"
#include "base/unique_fd.h"

namespace balloon::daemon {
namespace {

using policy::Bytes;

/// Stacks of threads (8 MiB), heaps and libraries are smaller; the memory of a guest worth a balloon is not.
constexpr Bytes kPieceMin = 16 * kMiB;
/// Of the text no more is read: some 2,500 mappings, where a VMM has a few hundred. A process may have
/// 65,530.
constexpr std::size_t kTextMax = 256 << 10;

struct Mapping {
  std::uint64_t begin = 0;  ///< addresses
  std::uint64_t end = 0;
  bool counts = false;
};

/// "7f0c00000000-7f0c80000000 rw-s 00000000 00:01 1024 /memfd:guest (deleted)"
std::optional<Mapping> parse(std::string_view line) {
  Mapping mapping;
  const char* const text_end = line.data() + line.size();
  const auto [dash, bad_begin] = std::from_chars(line.data(), text_end, mapping.begin, 16);
  if (bad_begin != std::errc{} || dash == text_end || *dash != '-') return std::nullopt;
  const auto [blank, bad_end] = std::from_chars(dash + 1, text_end, mapping.end, 16);
  if (bad_end != std::errc{} || text_end - blank < 5 || mapping.end < mapping.begin) return std::nullopt;
  const std::string_view permissions(blank + 1, 4);
  const bool accessible = permissions[0] == 'r' || permissions[1] == 'w';
  mapping.counts = accessible && (permissions[1] == 'w' || permissions[3] == 's');
  return mapping;
}

std::string read_some(const std::string& path) {
  std::string text(kTextMax, '\0');
  std::size_t size = 0;
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  for (ssize_t count = 0; file && size < text.size(); size += static_cast<std::size_t>(count)) {
    count = ::read(file.get(), text.data() + size, text.size() - size);
    if (count <= 0) break;
  }
  text.resize(size);
  return text;
}

}  // namespace

Bytes guest_room_in(std::string_view maps) {
  Bytes room{};
  Mapping piece;
  const auto close_piece = [&] {
    const Bytes size{piece.end - piece.begin};
    if (size >= kPieceMin) room += size;
    piece = {};
  };
  while (!maps.empty()) {
    const std::string_view line = maps.substr(0, maps.find('\n'));
    maps.remove_prefix(std::min(maps.size(), line.size() + 1));
    const auto mapping = parse(line);
    if (!mapping || !mapping->counts) continue;
    if (mapping->begin != piece.end) {
      close_piece();
      piece.begin = mapping->begin;
    }
    piece.end = mapping->end;
  }
  close_piece();
  return room;
}

std::optional<Bytes> guest_room(const std::string& root, pid_t pid) {
  if (pid == 0) return std::nullopt;
  const std::string maps = read_some(fmt::format("{}/proc/{}/maps", root, pid));
  if (!maps.empty()) return guest_room_in(maps);
  ReadBuffer buffer;
  const PseudoFile file(fmt::format("{}/proc/{}/status", root, pid));
  const auto status = file.read(buffer);
  const auto size = status ? number_after(*status, "VmSize:") : std::nullopt;
  return size ? std::optional(*size * kKiB) : std::nullopt;
}

}  // namespace balloon::daemon

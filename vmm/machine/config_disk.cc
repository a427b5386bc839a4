// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config_disk.h"

#include <fmt/format.h>

#include <bit>
#include <string>

#include "vmm/machine/config_identity.h"
#include "vmm/machine/flag_values.h"

namespace balloon::vmm {
namespace {

constexpr std::size_t kMaxSerialNumber = 20;  // VIRTIO_BLK_ID_BYTES
constexpr std::uint32_t kMinBlockSize = 512;
constexpr std::uint32_t kMaxBlockSize = 4096;  ///< what Linux takes: a page

Result<BlockFormat> parse_format(std::string_view text) {
  if (text == "raw") return BlockFormat::raw;
  if (text == "qcow2") return BlockFormat::qcow2;
  return fail(fmt::format("format={}: use raw or qcow2", text));
}

Result<BackingFiles> parse_backing(std::string_view text) {
  if (text == "off") return BackingFiles::off;
  if (text == "same-directory") return BackingFiles::same_directory;
  if (text == "any") return BackingFiles::any;
  return fail(fmt::format("backing={}: use off, same-directory or any", text));
}

Result<BlockCache> parse_cache(std::string_view text) {
  if (text == "writeback") return BlockCache::writeback;
  if (text == "writethrough") return BlockCache::writethrough;
  if (text == "none") return BlockCache::none;
  return fail(fmt::format("cache={}: use writeback, writethrough or none", text));
}

Result<BlockEngine> parse_engine(std::string_view text) {
  if (text == "auto") return BlockEngine::automatic;
  if (text == "io_uring") return BlockEngine::io_uring;
  if (text == "threads") return BlockEngine::threads;
  return fail(fmt::format("engine={}: use auto, io_uring or threads", text));
}

Result<BlockLock> parse_lock(std::string_view text) {
  if (text == "on") return BlockLock::on;
  if (text == "warn") return BlockLock::warn;
  if (text == "off") return BlockLock::off;
  return fail(fmt::format("lock={}: use on, warn or off", text));
}

Result<ErrorPolicy> parse_write_errors(std::string_view text) {
  if (text == "report") return ErrorPolicy::report;
  if (text == "ignore") return ErrorPolicy::ignore;
  if (text == "stop") return ErrorPolicy::stop;
  if (text == "enospc") return ErrorPolicy::enospc;
  return fail(fmt::format("werror={}: use report, ignore, stop or enospc", text));
}

/// A read needs no room.
Result<ErrorPolicy> parse_read_errors(std::string_view text) {
  if (const auto policy = parse_write_errors(text); policy && *policy != ErrorPolicy::enospc) return policy;
  return fail(fmt::format("rerror={}: use report, ignore or stop", text));
}

template <typename T>
Setter to_parsed(T& into, Result<T> (*parse)(std::string_view)) {
  return [&into, parse](std::string_view value) -> Result<void> {
    const auto parsed = parse(value);
    if (!parsed) return std::unexpected(parsed.error());
    into = *parsed;
    return {};
  };
}

/// A string in YAML; the parser's complaint appears at its place.
template <typename T>
void read_parsed(yaml::Map& map, std::string_view key, T& into, Result<T> (*parse)(std::string_view)) {
  map.with(key, [&](const yaml::Value& value) {
    std::string text;
    if (!value.read(text)) return;
    if (const auto done = to_parsed(into, parse)(text); !done) value.complain(done.error().message);
  });
}

}  // namespace

Result<BlockConfig> parse_disk(std::string_view text) {
  BlockConfig disk;
  const auto read_only = [&](std::string_view value) -> Result<void> {
    if (value.empty()) return disk.read_only = true, Result<void>{};
    return to_switch(disk.read_only, "readonly")(value);
  };
  BALLOON_TRY(
      parse_pairs(text, {{"path", to_string(disk.path, "path")},
                         {"id", to_id(disk.identity)},
                         {"addr", to_slot(disk.identity)},
                         {"readonly", read_only},
                         {"serial", to_string(disk.serial, "serial")},
                         {"format", to_parsed(disk.format, parse_format)},
                         {"backing", to_parsed(disk.backing, parse_backing)},
                         {"cache", to_parsed(disk.cache, parse_cache)},
                         {"engine", to_parsed(disk.engine, parse_engine)},
                         {"lock", to_parsed(disk.lock, parse_lock)},
                         {"werror", to_parsed(disk.write_errors, parse_write_errors)},
                         {"rerror", to_parsed(disk.read_errors, parse_read_errors)},
                         {"queues", to_number(disk.queues, "queues")},
                         {"block-size", to_number(disk.block_size, "block-size")},
                         {"discard", to_switch(disk.discard, "discard")},
                         {"rate-bytes", to_bytes(disk.bytes_per_second, "rate-bytes")},
                         {"rate-bytes-burst", to_bytes(disk.burst_bytes, "rate-bytes-burst")},
                         {"rate-requests", to_number(disk.requests_per_second, "rate-requests")},
                         {"rate-requests-burst", to_number(disk.burst_requests, "rate-requests-burst")}}));
  if (disk.path.empty()) return fail(fmt::format("'{}' has no path=", text));
  return disk;
}

void read_disk(yaml::Map& map, BlockConfig& disk) {
  map.require("path");
  map.field("path", disk.path);
  read_identity(map, disk.identity);
  map.field("readonly", disk.read_only);
  map.field("serial", disk.serial);
  read_parsed(map, "format", disk.format, parse_format);
  read_parsed(map, "backing", disk.backing, parse_backing);
  read_parsed(map, "cache", disk.cache, parse_cache);
  read_parsed(map, "engine", disk.engine, parse_engine);
  read_parsed(map, "lock", disk.lock, parse_lock);
  read_parsed(map, "werror", disk.write_errors, parse_write_errors);
  read_parsed(map, "rerror", disk.read_errors, parse_read_errors);
  map.field("queues", disk.queues);
  map.field("block_size", disk.block_size);
  map.field("discard", disk.discard);
  map.map("rate", [&](yaml::Map& rate) {
    rate.bytes("bytes", disk.bytes_per_second);
    rate.bytes("bytes_burst", disk.burst_bytes);
    rate.field("requests", disk.requests_per_second);
    rate.field("requests_burst", disk.burst_requests);
  });
}

Result<void> check_disk(const BlockConfig& disk) {
  if (disk.path.empty()) return fail("disk: its path is missing");
  if (disk.serial.size() > kMaxSerialNumber) {
    return fail(fmt::format("disk '{}': serial '{}' is longer than {} bytes", disk.path, disk.serial,
                            kMaxSerialNumber));
  }
  if (disk.queues < 1 || disk.queues > kMaxBlockQueues) {
    return fail(
        fmt::format("disk '{}': {} queues are not within 1 to {}", disk.path, disk.queues, kMaxBlockQueues));
  }
  if (!std::has_single_bit(disk.block_size) || disk.block_size < kMinBlockSize ||
      disk.block_size > kMaxBlockSize) {
    return fail(fmt::format("disk '{}': a block size of {} is not a power of two within {} to {}", disk.path,
                            disk.block_size, kMinBlockSize, kMaxBlockSize));
  }
  if ((disk.burst_bytes != Bytes{0} && disk.bytes_per_second == Bytes{0}) ||
      (disk.burst_requests != 0 && disk.requests_per_second == 0)) {
    return fail(fmt::format("disk '{}': a burst needs a rate that it is a burst of", disk.path));
  }
  return {};
}

}  // namespace balloon::vmm

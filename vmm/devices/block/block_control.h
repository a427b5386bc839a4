// SPDX-License-Identifier: Apache-2.0
// What a disk is, for who asks from outside the guest: its image, and what lies below it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/bytes.h"

namespace balloon::vmm {

struct ImageInfo {
  std::string path;
  std::string format;  ///< "raw", "qcow2"
  Bytes virtual_size{};
  Bytes allocated{};     ///< what the file takes of its filesystem
  Bytes cluster_size{};  ///< 0: the format has none
  // qcow2 only.
  std::uint32_t version = 0;
  std::uint32_t refcount_bits = 0;
  std::string backing_name;                  ///< as it stands in the image; empty: none
  std::shared_ptr<const ImageInfo> backing;  ///< what is opened by that name
};

/// What the device did since it was made.
struct BlockCounters {
  Bytes read{};
  Bytes written{};
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t flushes = 0;
  std::uint64_t discards = 0;   ///< and write-zeroes
  std::uint64_t throttled = 0;  ///< times that a queue waited for the rate limit
  std::uint64_t failed = 0;     ///< answered with an error: of the image, or for what was asked
  std::uint64_t malformed = 0;  ///< without room for a status byte: nothing could be answered
};

/// What was the last error since the guest was told to go on.
enum class IoStatus { ok, failed, no_space };

/// A request that the image could not do.
struct IoFailure {
  enum class Action {
    report,  ///< the guest is told
    ignore,  ///< the guest is told that it was done
    stop,    ///< the guest waits, and is stopped; the request is tried again when it goes on
  };
  bool write = false;  ///< or anything else that changes the image
  Action action = Action::report;
  bool no_space = false;
  std::string reason{};
};

/// Thread-safe. What only reads waits for nobody.
class BlockControl {
 public:
  virtual ~BlockControl() = default;
  virtual ImageInfo image() const = 0;
  virtual BlockCounters counters() const = 0;
  virtual IoStatus status() const = 0;
  /// Called with failures: with each that is to stop the guest, of others with one in 10 s. From the device's
  /// thread; must not block nor call back. One observer; an empty function removes it, and then no call is
  /// under way.
  virtual void observe(std::function<void(const IoFailure&)> on_failure) = 0;
  /// Whether requests wait for the guest to go on.
  virtual bool holds_failed() const = 0;
  /// The guest goes on: what failed is tried again.
  virtual void go_on_after_failure() = 0;
};

}  // namespace balloon::vmm

// What a disk is, for who asks from outside the guest: its image, and what lies below it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"

namespace balloon::vmm {

struct ImageInfo {
  std::string path;
  std::string format;  ///< "raw", "qcow2"
  Bytes virtual_size = 0;
  Bytes allocated = 0;     ///< what the file takes of its filesystem
  Bytes cluster_size = 0;  ///< 0: the format has none
  // qcow2 only.
  std::uint32_t version = 0;
  std::uint32_t refcount_bits = 0;
  std::string backing_name;                  ///< as it stands in the image; empty: none
  std::shared_ptr<const ImageInfo> backing;  ///< what is opened by that name
};

/// What the device did since it was made.
struct BlockCounters {
  Bytes read = 0;
  Bytes written = 0;
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t flushes = 0;
  std::uint64_t discards = 0;   ///< and write-zeroes
  std::uint64_t throttled = 0;  ///< times that a queue waited for the rate limit
  std::uint64_t failed = 0;     ///< answered with an error: of the image, or for what was asked
  std::uint64_t malformed = 0;  ///< without room for a status byte: nothing could be answered
};

/// Thread-safe; waits for nobody.
class BlockControl {
 public:
  virtual ~BlockControl() = default;
  virtual ImageInfo image() const = 0;
  virtual BlockCounters counters() const = 0;
};

}  // namespace balloon::vmm

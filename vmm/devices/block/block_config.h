// SPDX-License-Identifier: Apache-2.0
// What a disk is told.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "vmm/devices/identity.h"

namespace balloon::vmm {

enum class BlockFormat {
  by_name,  ///< qcow2 when the path ends with ".qcow2", else raw; never by the content, which a guest writes
  raw,
  qcow2,
};
/// Which files of the host a qcow2 image may name as what lies below it.
enum class BackingFiles { off, same_directory, any };
/// Where a write is when the guest is told that it is done, and what makes it safe.
enum class BlockCache {
  writeback,     ///< in the host's page cache; the guest's flush makes it safe
  writethrough,  ///< on the medium
  none,          ///< past the host's page cache (O_DIRECT); the guest's flush makes it safe
};
enum class BlockEngine { automatic, io_uring, threads };
/// Whether the image is locked against other programs.
enum class BlockLock {
  on,    ///< or it is not opened
  warn,  ///< or, where its filesystem has no locks, there is a warning in the log
  off,
};

/// What becomes of a request that the image could not do; the values are QEMU's.
enum class ErrorPolicy {
  report,  ///< the guest has an I/O error
  ignore,  ///< the guest is told that it was done
  stop,    ///< the guest is stopped until it is told to go on; then it is tried again
  enospc,  ///< stop where the host's disk is full, report all else
};

struct BlockConfig {
  std::string path;  ///< an image: a regular file or block device
  bool read_only = false;
  std::string serial{};  ///< at most 20 bytes (VIRTIO_BLK_ID_BYTES)
  BlockFormat format = BlockFormat::by_name;
  BackingFiles backing = BackingFiles::same_directory;
  BlockCache cache = BlockCache::writeback;
  BlockEngine engine = BlockEngine::automatic;
  BlockLock lock = BlockLock::on;
  ErrorPolicy write_errors = ErrorPolicy::report;  ///< and of all else that changes the image
  ErrorPolicy read_errors = ErrorPolicy::report;
  std::uint32_t queues = 1;        ///< 1 to kMaxBlockQueues
  std::uint32_t block_size = 512;  ///< logical, as the guest sees it: 512 to 4096, a power of two
  bool discard = true;             ///< whether the guest may give room back
  // Limits over time, of reads and writes together; 0: none. A burst of 0 is a tenth of a second's worth.
  Bytes bytes_per_second{};
  Bytes burst_bytes{};
  std::uint32_t requests_per_second = 0;
  std::uint32_t burst_requests = 0;
  DeviceIdentity identity{};
};
inline constexpr std::uint32_t kMaxBlockQueues = 64;  ///< one a vCPU

}  // namespace balloon::vmm

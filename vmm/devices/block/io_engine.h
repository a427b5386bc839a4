// SPDX-License-Identifier: Apache-2.0
// Asynchronous I/O on files: by io_uring, or by threads where the host has none.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "base/error.h"

namespace balloon::vmm {

/// One operation. Owned by who starts it, who leaves it alone until it is done.
struct FileIo {
  enum class Kind { read, write, flush, punch_hole, zero_range };
  Kind kind = Kind::read;
  int fd = -1;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;      ///< punch_hole, zero_range
  std::span<iovec> buffers{};  ///< read, write: of the file's alignment
  bool durable = false;        ///< write: on the medium when it is done
  std::int64_t result = 0;     ///< bytes (it may be short) or 0; negative: an errno value
};

/// All calls come from one thread at a time.
class IoEngine {
 public:
  using Done = std::function<void(FileIo&)>;
  /// How many operations the kernel is given at once; more wait their turn.
  static constexpr unsigned kDepth = 256;

  virtual ~IoEngine() = default;
  virtual std::string_view name() const = 0;
  virtual void start(FileIo& io) = 0;
  /// Hands on what was started since the last time.
  virtual void submit() = 0;
  /// Readable while collect() has something to do.
  virtual int fd() const = 0;
  /// Calls Done for all that is finished; never waits by itself. Done may start more (and must submit() it),
  /// and may call drain().
  virtual void collect() = 0;
  /// Waits until nothing is in flight; calls Done for each.
  virtual void drain() = 0;
  /// Started and not yet done.
  virtual std::size_t in_flight() const = 0;
};

/// Fails when the host has no io_uring, or does not let this process use it.
Result<std::unique_ptr<IoEngine>> make_uring_engine(IoEngine::Done done);
/// Fails only when the process is out of file descriptors or threads.
Result<std::unique_ptr<IoEngine>> make_thread_engine(IoEngine::Done done);

}  // namespace balloon::vmm

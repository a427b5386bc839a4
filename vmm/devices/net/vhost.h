// SPDX-License-Identifier: Apache-2.0
// vhost-net: the kernel serves a queue pair (linux/vhost.h). One of these a pair.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm {

/// The system calls, so that tests can play the kernel.
class VhostKernel {
 public:
  virtual ~VhostKernel() = default;
  /// /dev/vhost-net, or -1 and errno.
  virtual int open();
  /// As ioctl(2).
  virtual int control(int fd, unsigned long request, void* argument);
};

class Vhost {
 public:
  static constexpr std::size_t kRings = 2;  ///< receive and send, in vhost's order too

  /// Opens /dev/vhost-net (or duplicates `descriptor` where it is not -1) and becomes its owner. `memory` and
  /// `kernel` must outlive it.
  static Result<std::unique_ptr<Vhost>> create(VhostKernel& kernel, int descriptor,
                                               const GuestMemory& memory);
  ~Vhost();
  Vhost(const Vhost&) = delete;
  Vhost& operator=(const Vhost&) = delete;

  /// What of `features` can be offered when vhost serves the queues: of what vhost itself has a part in, only
  /// what it knows; of the rest, which is between guest and tap, everything.
  std::uint64_t filter(std::uint64_t features) const;

  /// One ring: where it lies, what raises its interrupt, which available entry is next.
  struct Ring {
    QueueLayout layout;
    int call = -1;
    std::uint16_t position = 0;
  };
  /// Serves the rings with `tap`; `tap_header`: whether it has a header of its own.
  Result<void> start(std::uint64_t features, const std::array<Ring, kRings>& rings, int tap, bool tap_header);
  /// Stops serving; nothing is written to guest memory afterwards. It can go on with resume().
  void pause();
  Result<void> resume();
  /// Forgets the rings.
  void stop();
  bool serves() const { return running_; }
  bool started() const { return started_; }
  /// Takes the guest's memory from its present regions, and goes on where it was.
  Result<void> memory_changed();
  /// Of a paused ring.
  std::uint16_t position(std::size_t ring) const { return rings_[ring].ring.position; }
  /// Signals `event` from now on when ring `ring` has been used.
  void set_call(std::size_t ring, int event);

  /// To be signalled when the driver kicks.
  int kick_event(std::size_t ring) const { return rings_[ring].kick.get(); }
  /// Signalled when the guest broke the rules.
  int error_event() const { return error_.get(); }

 private:
  struct RingState {
    UniqueFd kick;
    Ring ring{};
  };
  Vhost(VhostKernel& kernel, UniqueFd fd, const GuestMemory& memory)
      : kernel_(kernel), fd_(std::move(fd)), memory_(memory) {}
  Result<void> call(const char* what, unsigned long request, void* argument);
  Result<void> set_memory();
  Result<void> set_ring(unsigned index);
  Result<void> set_backend(unsigned index, int tap);

  VhostKernel& kernel_;
  UniqueFd fd_;
  const GuestMemory& memory_;
  std::uint64_t offered_ = 0;
  UniqueFd error_;
  std::array<RingState, kRings> rings_;
  int tap_ = -1;
  bool started_ = false;
  bool running_ = false;
};

}  // namespace balloon::vmm

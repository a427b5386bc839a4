// SPDX-License-Identifier: Apache-2.0
// vhost-net, played by this process: it keeps to the contract of linux/vhost.h and of drivers/vhost (who may
// call what when), and moves frames between the rings and the tap on threads of its own.
#pragma once

#define VIRTIO_RING_NO_LEGACY
#include <linux/vhost.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/vmm/virtio/fake_driver.h"
#include "vmm/devices/net/header.h"
#include "vmm/devices/net/vhost.h"
#include "vmm/virtio/iovecs.h"

namespace balloon::vmm::test {

class FakeVhost : public VhostKernel {
 public:
  explicit FakeVhost(const GuestMemory& memory) : memory_(memory) {}
  ~FakeVhost() override {
    for (auto& ring : rings_) stop(ring);
  }

  int open() override {
    if (absent) {
      errno = ENOENT;
      return -1;
    }
    ++opened;
    return ::eventfd(0, EFD_CLOEXEC);
  }

  int control(int /*fd*/, unsigned long request, void* argument) override {
    const int error = handle(request, argument);
    if (error == 0) return 0;
    errno = error;
    return -1;
  }

  bool absent = false;
  unsigned long refuse = 0;  ///< this request fails with EFAULT
  std::uint64_t offered = kFeatureVersion1 | kFeatureIndirectDesc | kFeatureEventIdx |
                          net_feature::kMrgRxbuf | 1ULL << VHOST_NET_F_VIRTIO_NET_HDR;
  int opened = 0;
  bool owned = false;
  std::uint64_t features = 0;
  std::vector<vhost_memory_region> table;
  std::atomic<std::uint64_t> frames = 0;  ///< moved
  int starts = 0;
  bool running(std::size_t ring) const { return rings_[ring].worker.joinable(); }
  void report_error(std::size_t ring) { signal(rings_[ring].error); }
  /// What it signals when the guest wants an interrupt.
  int call(std::size_t ring) const { return rings_[ring].call; }

 private:
  struct Ring {
    std::uint16_t size = 0;
    std::uint16_t base = 0;
    std::optional<vhost_vring_addr> address;
    int kick = -1;
    std::atomic<int> call = -1;
    int error = -1;
    int tap = -1;
    UniqueFd end;
    std::optional<VirtQueue> queue;
    std::jthread worker;
  };

  static void signal(int event) {
    const std::uint64_t one = 1;
    if (event >= 0) [[maybe_unused]]
      const auto written = ::write(event, &one, sizeof one);
  }

  int handle(unsigned long request, void* argument) {
    if (request == refuse) return EFAULT;
    if (request == VHOST_SET_OWNER) return std::exchange(owned, true) ? EBUSY : 0;
    if (request == VHOST_GET_FEATURES) return *static_cast<std::uint64_t*>(argument) = offered, 0;
    if (!owned) return EPERM;
    if (request == VHOST_RESET_OWNER) return owned = false, 0;
    if (request == VHOST_SET_FEATURES) {
      features = *static_cast<std::uint64_t*>(argument);
      return (features & ~offered) != 0 ? EOPNOTSUPP : 0;
    }
    if (request == VHOST_SET_MEM_TABLE) {
      const auto* header = static_cast<vhost_memory*>(argument);
      const auto* first = reinterpret_cast<const vhost_memory_region*>(header + 1);
      table.assign(first, first + header->nregions);
      return header->padding != 0 ? EOPNOTSUPP : 0;
    }
    const auto index = *static_cast<unsigned*>(argument);
    if (index >= rings_.size()) return ENOBUFS;
    return handle_ring(rings_[index], index, request, argument);
  }

  int handle_ring(Ring& ring, unsigned index, unsigned long request, void* argument) {
    const auto* state = static_cast<vhost_vring_state*>(argument);
    const auto* file = static_cast<vhost_vring_file*>(argument);
    switch (request) {
      case VHOST_SET_VRING_NUM:
        if (ring.tap >= 0) return EBUSY;  // "can not be modified while ring is running"
        ring.size = static_cast<std::uint16_t>(state->num);
        return 0;
      case VHOST_SET_VRING_BASE:
        if (ring.tap >= 0) return EBUSY;
        ring.base = static_cast<std::uint16_t>(state->num);
        return 0;
      case VHOST_GET_VRING_BASE:
        static_cast<vhost_vring_state*>(argument)->num = ring.base;
        return 0;
      case VHOST_SET_VRING_ADDR:
        ring.address = *static_cast<vhost_vring_addr*>(argument);
        return 0;
      case VHOST_SET_VRING_KICK:
        ring.kick = file->fd;
        return 0;
      case VHOST_SET_VRING_CALL:
        ring.call = file->fd;
        return 0;
      case VHOST_SET_VRING_ERR:
        ring.error = file->fd;
        return 0;
      case VHOST_NET_SET_BACKEND:
        return set_backend(ring, index, file->fd);
      default:
        return ENOTTY;
    }
  }

  /// By the table, as vhost translates.
  std::optional<GuestAddress> guest_address(std::uint64_t user) const {
    for (const auto& region : table) {
      if (user >= region.userspace_addr && user - region.userspace_addr < region.memory_size)
        return region.guest_phys_addr + (user - region.userspace_addr);
    }
    return std::nullopt;
  }

  int set_backend(Ring& ring, unsigned index, int tap) {
    stop(ring);
    ring.tap = tap;
    if (tap < 0) return 0;
    if (!ring.address || ring.size == 0 || ring.kick < 0) return EFAULT;  // vhost_vq_access_ok()
    const auto descriptors = guest_address(ring.address->desc_user_addr);
    const auto available = guest_address(ring.address->avail_user_addr);
    const auto used = guest_address(ring.address->used_user_addr);
    if (!descriptors || !available || !used) return EFAULT;
    auto queue = VirtQueue::create(memory_, {.size = ring.size,
                                             .descriptors = *descriptors,
                                             .available = *available,
                                             .used = *used,
                                             .event_idx = (features & kFeatureEventIdx) != 0,
                                             .indirect = (features & kFeatureIndirectDesc) != 0});
    if (!queue || !queue->set_position({.next_available = ring.base, .next_used = ring.base})) return EFAULT;
    ring.queue.emplace(std::move(*queue));
    ring.end = UniqueFd(::eventfd(0, EFD_CLOEXEC));
    ring.worker = std::jthread([this, &ring, index] { index == 0 ? receive(ring) : send(ring); });
    ++starts;
    return 0;
  }

  void stop(Ring& ring) {
    if (!ring.worker.joinable()) return;
    signal(ring.end.get());
    ring.worker.join();
    ring.base = ring.queue->position().next_available;
    ring.queue.reset();
  }

  /// False when it is to end.
  static bool wait(const Ring& ring, int fd) {
    std::array<pollfd, 2> fds = {pollfd{fd, POLLIN, 0}, pollfd{ring.end.get(), POLLIN, 0}};
    ::poll(fds.data(), fds.size(), -1);
    return fds[1].revents == 0;
  }
  void finish(Ring& ring, Chain chain, std::uint32_t written) {
    ring.queue->put(std::move(chain), written);
    ++frames;
    if (ring.queue->should_interrupt()) signal(ring.call);
  }

  void send(Ring& ring) {
    do {
      std::uint64_t count = 0;
      pollfd kicked{ring.kick, POLLIN, 0};
      if (::poll(&kicked, 1, 0) == 1) [[maybe_unused]]
        const auto drained = ::read(ring.kick, &count, sizeof count);
      do {
        while (auto chain = ring.queue->take().value()) {
          std::vector<iovec> parts;
          to_iovecs(chain->readable(), 0, chain->readable_size(), parts);
          [[maybe_unused]] const auto sent = ::writev(ring.tap, parts.data(), static_cast<int>(parts.size()));
          finish(ring, std::move(*chain), 0);
        }
      } while (ring.queue->enable_kicks());
    } while (wait(ring, ring.kick));
  }

  void receive(Ring& ring) {
    while (wait(ring, ring.tap)) {
      auto chain = ring.queue->take().value();
      if (!chain) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      std::vector<iovec> parts;
      to_iovecs(chain->writable(), 0, chain->writable_size(), parts);
      const auto got = ::readv(ring.tap, parts.data(), static_cast<int>(parts.size()));
      if (got < 0) {
        VirtQueue::forget(std::move(*chain));
        continue;
      }
      const std::array one = {std::byte{1}, std::byte{0}};
      chain->write(10, one);
      finish(ring, std::move(*chain), static_cast<std::uint32_t>(got));
    }
  }

  const GuestMemory& memory_;
  std::array<Ring, 2> rings_;
};

}  // namespace balloon::vmm::test

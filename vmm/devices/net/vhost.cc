// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/vhost.h"

#include <fcntl.h>
// The legacy part of <linux/virtio_ring.h> is C only.
#define VIRTIO_RING_NO_LEGACY
#include <fmt/format.h>
#include <linux/vhost.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/log.h"
#include "vmm/devices/net/header.h"

namespace balloon::vmm {
namespace {

constexpr const char* kDevice = "/dev/vhost-net";
/// The features that vhost itself carries out; the others are between driver and tap.
constexpr std::uint64_t kOwnFeatures =
    kFeatureIndirectDesc | kFeatureEventIdx | kFeatureVersion1 | net_feature::kMrgRxbuf;
/// VHOST_NET_F_VIRTIO_NET_HDR: vhost strips and makes the header, for a tap without one.
constexpr std::uint64_t kMakeHeader = 1ULL << VHOST_NET_F_VIRTIO_NET_HDR;

std::uint64_t host_address(const std::span<std::byte> bytes) {
  return reinterpret_cast<std::uintptr_t>(bytes.data());
}

}  // namespace

int VhostKernel::open() { return ::open(kDevice, O_RDWR | O_CLOEXEC | O_NONBLOCK); }

int VhostKernel::control(int fd, unsigned long request, void* argument) {
  return ::ioctl(fd, request, argument);
}

Result<std::unique_ptr<Vhost>> Vhost::create(VhostKernel& kernel, int descriptor, const GuestMemory& memory) {
  UniqueFd fd(descriptor < 0 ? kernel.open() : ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
  if (!fd && descriptor >= 0) {
    return fail_errno(fmt::format("vhost: taking over file descriptor {}", descriptor), errno);
  }
  if (!fd) {
    return fail_errno(
        fmt::format("vhost: opening {} (is the vhost_net module loaded, and may you read and write "
                    "it?)",
                    kDevice),
        errno);
  }
  auto vhost = std::unique_ptr<Vhost>(new Vhost(kernel, std::move(fd), memory));
  BALLOON_TRY(vhost->call("becoming its owner", VHOST_SET_OWNER, nullptr));
  BALLOON_TRY(vhost->call("asking for its features", VHOST_GET_FEATURES, &vhost->offered_));
  if ((vhost->offered_ & kFeatureVersion1) == 0) return fail("vhost: this kernel's is older than virtio 1.0");
  vhost->error_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  for (RingState& ring : vhost->rings_) ring.kick = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!vhost->error_ || !vhost->rings_[0].kick || !vhost->rings_[1].kick)
    return fail_errno("vhost: making an eventfd", errno);
  return vhost;
}

Vhost::~Vhost() {
  stop();
  // A descriptor that was passed to us lives on, and the next life of the guest becomes its owner again.
  kernel_.control(fd_.get(), VHOST_RESET_OWNER, nullptr);
}

std::uint64_t Vhost::filter(std::uint64_t features) const { return features & (~kOwnFeatures | offered_); }

Result<void> Vhost::call(const char* what, unsigned long request, void* argument) {
  if (kernel_.control(fd_.get(), request, argument) >= 0) return {};
  return fail_errno(fmt::format("vhost: {}", what), errno);
}

Result<void> Vhost::start(std::uint64_t features, const std::array<Ring, kRings>& rings, int tap,
                          bool tap_header) {
  stop();
  std::uint64_t own = features & kOwnFeatures & offered_;
  if (!tap_header) {
    if ((offered_ & kMakeHeader) == 0) return fail("vhost: it needs a tap with vnet_hdr");
    own |= kMakeHeader;
  }
  BALLOON_TRY(call("setting its features", VHOST_SET_FEATURES, &own));
  BALLOON_TRY(set_memory());
  for (std::size_t i = 0; i < kRings; ++i) rings_[i].ring = rings[i];
  tap_ = tap;
  started_ = true;
  auto done = resume();
  if (!done) stop();
  return done;
}

Result<void> Vhost::resume() {
  if (!started_ || running_) return {};
  for (unsigned i = 0; i < kRings; ++i) BALLOON_TRY(set_ring(i));
  running_ = true;  // from here on there may be something to stop
  for (unsigned i = 0; i < kRings; ++i) {
    if (auto done = set_backend(i, tap_); !done) {
      pause();
      return done;
    }
  }
  return {};
}

void Vhost::pause() {
  if (!running_) return;
  running_ = false;
  for (unsigned i = 0; i < kRings; ++i) {
    // In this order: without its backend the ring's work is over when the call returns.
    vhost_vring_state state{.index = i, .num = 0};
    auto done = set_backend(i, -1);
    if (done) done = call("reading a ring's position", VHOST_GET_VRING_BASE, &state);
    if (!done) log::error("{}", done.error().message);
    if (done) rings_[i].ring.position = static_cast<std::uint16_t>(state.num);
  }
}

void Vhost::stop() {
  pause();
  started_ = false;
}

Result<void> Vhost::memory_changed() {
  if (!started_) return {};
  const bool running = running_;
  pause();
  BALLOON_TRY(set_memory());
  return running ? resume() : Result<void>{};
}

Result<void> Vhost::set_memory() {
  const auto regions = memory_.regions();
  // struct vhost_memory ends in an array.
  std::vector<std::byte> bytes(sizeof(vhost_memory) + regions.size() * sizeof(vhost_memory_region));
  const vhost_memory header{.nregions = static_cast<__u32>(regions.size()), .padding = 0};
  std::memcpy(bytes.data(), &header, sizeof header);
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const vhost_memory_region region{.guest_phys_addr = regions[i].start,
                                     .memory_size = regions[i].host.size(),
                                     .userspace_addr = host_address(regions[i].host),
                                     .flags_padding = 0};
    std::memcpy(bytes.data() + sizeof header + i * sizeof region, &region, sizeof region);
  }
  return call("telling it the guest's memory", VHOST_SET_MEM_TABLE, bytes.data());
}

Result<void> Vhost::set_ring(unsigned index) {
  const RingState& ring = rings_[index];
  const QueueLayout& layout = ring.ring.layout;
  vhost_vring_state size{.index = index, .num = layout.size};
  BALLOON_TRY(call("setting a ring's size", VHOST_SET_VRING_NUM, &size));
  vhost_vring_state base{.index = index, .num = ring.ring.position};
  BALLOON_TRY(call("setting a ring's position", VHOST_SET_VRING_BASE, &base));
  // The queue was checked to lie in RAM, each part in one region (VirtQueue::create()).
  const auto descriptors = memory_.at(layout.descriptors, 1);
  const auto available = memory_.at(layout.available, 1);
  const auto used = memory_.at(layout.used, 1);
  if (!descriptors || !available || !used) return fail("vhost: a ring is not in guest memory any more");
  vhost_vring_addr address{.index = index,
                           .flags = 0,
                           .desc_user_addr = host_address(*descriptors),
                           .used_user_addr = host_address(*used),
                           .avail_user_addr = host_address(*available),
                           .log_guest_addr = 0};
  BALLOON_TRY(call("setting a ring's place", VHOST_SET_VRING_ADDR, &address));
  vhost_vring_file kick{.index = index, .fd = ring.kick.get()};
  BALLOON_TRY(call("setting a ring's kick", VHOST_SET_VRING_KICK, &kick));
  vhost_vring_file signal{.index = index, .fd = ring.ring.call};
  BALLOON_TRY(call("setting a ring's interrupt", VHOST_SET_VRING_CALL, &signal));
  vhost_vring_file error{.index = index, .fd = error_.get()};
  return call("setting a ring's error event", VHOST_SET_VRING_ERR, &error);
}

Result<void> Vhost::set_backend(unsigned index, int tap) {
  vhost_vring_file backend{.index = index, .fd = tap};
  return call(tap < 0 ? "taking the tap away" : "giving it the tap", VHOST_NET_SET_BACKEND, &backend);
}

void Vhost::set_call(std::size_t ring, int event) {
  rings_[ring].ring.call = event;
  if (!running_) return;
  vhost_vring_file signal{.index = static_cast<unsigned>(ring), .fd = event};
  if (const auto done = call("setting a ring's interrupt", VHOST_SET_VRING_CALL, &signal); !done)
    log::error("{}", done.error().message);
}

}  // namespace balloon::vmm

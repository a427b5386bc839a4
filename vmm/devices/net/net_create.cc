// SPDX-License-Identifier: Apache-2.0
// Makes a network device: opens what it needs, finds out what that can do, and offers it.
#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "vmm/devices/net/net.h"
#include "vmm/devices/net/net_device.h"
#include "vmm/devices/net/offloads.h"

namespace balloon::vmm {
namespace {

using namespace net_feature;  // NOLINT: what the device offers

constexpr std::uint16_t kLinkUp = 1;  // VIRTIO_NET_S_LINK_UP

// The first byte of a MAC address (IEEE 802, 8.2).
constexpr std::uint8_t kMulticast = 1;
constexpr std::uint8_t kLocallyAdministered = 2;

Result<MacAddress> random_mac() {
  MacAddress mac;
  if (::getrandom(mac.data(), mac.size(), 0) != static_cast<ssize_t>(mac.size())) {
    return fail_errno("making a MAC address", errno);
  }
  mac[0] = static_cast<std::uint8_t>((mac[0] & ~kMulticast) | kLocallyAdministered);
  return mac;
}

Result<std::vector<Tap>> open_taps(const NetConfig& config) {
  if (config.fds.empty()) return Tap::open(config.tap, config.queues, config.vnet_header);
  const std::vector<int> descriptors(config.fds.begin(), config.fds.end());
  return Tap::adopt(descriptors);
}

}  // namespace

std::string NetConfig::backend() const { return fds.empty() ? tap : fmt::format("fd {}", fds[0]); }

bool is_unicast(const MacAddress& mac) {
  return (mac[0] & kMulticast) == 0 && std::ranges::any_of(mac, [](std::uint8_t byte) { return byte != 0; });
}

Result<NetPort> open_net_port(const NetConfig& config) {
  const std::string what = fmt::format("net {}", config.backend());
  const auto mac = config.mac ? Result<MacAddress>(*config.mac) : random_mac();
  if (!mac) return fail(what, mac.error());
  if (!is_unicast(*mac)) {
    return fail(what + ": a guest cannot have a multicast MAC address (its first byte is odd), nor none");
  }
  auto taps = open_taps(config);
  if (!taps) return std::unexpected(std::move(taps.error()));
  return NetPort{.taps = std::move(*taps), .mac = *mac};
}

Result<NetDevice> make_net(const NetConfig& config, const NetPort& port, const GuestMemory& memory,
                           EventLoop& loop) {
  static VhostKernel kernel;  // without state
  auto net = Net::create(config, port, memory, loop, kernel);
  if (!net) return std::unexpected(std::move(net.error()));
  NetControl* const control = net->get();
  return NetDevice{std::move(*net), control};
}

Result<std::unique_ptr<Net>> Net::create(const NetConfig& config, const NetPort& port,
                                         const GuestMemory& memory, EventLoop& loop, VhostKernel& kernel) {
  std::vector<Tap> taps;
  for (const Tap& tap : port.taps) {
    auto own = tap.duplicate();
    if (!own) return std::unexpected(std::move(own.error()));
    taps.push_back(std::move(*own));
  }
  std::unique_ptr<Net> net(new Net(config, port.mac, std::move(taps), memory, loop));
  BALLOON_TRY(net->set_up_vhost(kernel));
  BALLOON_TRY(net->set_up());
  return net;
}

Net::Net(const NetConfig& config, MacAddress mac, std::vector<Tap> taps, const GuestMemory& memory,
         EventLoop& loop)
    : config_(config),
      name_("net " + config.backend()),
      first_mac_(mac),
      memory_(memory),
      loop_(loop),
      space_{.mac = mac,
             .status = config.link ? kLinkUp : std::uint16_t{0},
             .max_pairs = static_cast<std::uint16_t>(taps.size()),
             .mtu = static_cast<std::uint16_t>(config.mtu)},
      cable_(config.link),
      receive_limit_(config.rate),
      send_limit_(config.rate) {
  for (Tap& tap : taps) {
    const auto queue = static_cast<std::uint16_t>(2 * pairs_.size());
    pairs_.push_back({.tap = std::move(tap), .receive_queue = queue});
    queue_sizes_.insert(queue_sizes_.end(), 2, static_cast<std::uint16_t>(config.queue_size));
  }
  queue_sizes_.push_back(kControlQueueSize);
}

Net::~Net() {
  {
    const MutexLock lock(mutex());
    active_ = false;
    for (Pair& pair : pairs_) {
      pair.receiver.forget();
      if (pair.vhost) pair.vhost->stop();
    }
    if (queues_) queues_->stop();
  }
  tokens_.reset();
  wishes_.reset();
  for (Pair& pair : pairs_) {
    loop_.unwatch(pair.tap.fd());
    if (pair.vhost) loop_.unwatch(pair.vhost->error_event());
    for (const UniqueFd& call : pair.calls) {
      if (call) loop_.unwatch(call.get());
    }
  }
  queues_.reset();
  // The interface outlives us, and our next life may come: as it came.
  for (std::size_t i = 1; i < pairs_.size(); ++i) {
    if (!pairs_[i].used) pairs_[i].tap.set_attached(true);
  }
  pairs_[0].tap.clear_filter();
  pairs_[0].tap.set_carrier(true);
}

Result<void> Net::set_up() {
  const Tap& first = pairs_[0].tap;
  offer(config_.offload ? first.probe_offloads() : 0);
  first.clear_filter();  // of whoever had the interface before
  first.set_carrier(cable_);
  for (std::size_t i = 1; i < pairs_.size(); ++i) {
    if (!pairs_[i].tap.set_attached(false))
      return fail_errno(name_ + ": detaching a queue of the tap", errno);
  }
  auto tokens = loop_.timer([this] { on_tokens(); });
  if (!tokens) return fail(name_, tokens.error());
  tokens_ = std::move(*tokens);
  auto wishes = Wishes::create(mutex(), loop_);
  if (!wishes) return fail(name_, wishes.error());
  wishes_ = std::move(*wishes);
  auto queues = DeviceQueues::create(*this, loop_);
  if (!queues) return std::unexpected(std::move(queues.error()));
  queues_ = std::move(*queues);
  return {};
}

void Net::offer(unsigned tap_offloads) {
  offered_ = kFeatureIndirectDesc | kFeatureEventIdx | kMac | kStatus | kMrgRxbuf | kCtrlVq | kCtrlRx |
             kCtrlMacAddr | kGuestAnnounce | features_of_offloads(tap_offloads);
  if (tap_offloads != 0) offered_ |= kCtrlGuestOffloads;
  if (pairs_.size() > 1) offered_ |= kMq;
  if (config_.mtu > 0) offered_ |= kMtu;
  if (pairs_[0].vhost) offered_ = pairs_[0].vhost->filter(offered_);
}

/// With `on`, what the kernel cannot do we do, and say so.
Result<void> Net::set_up_vhost(VhostKernel& kernel) {
  if (config_.vhost == NetConfig::Vhost::off && config_.vhost_fds.empty()) return {};
  const bool must = config_.vhost == NetConfig::Vhost::force || !config_.vhost_fds.empty();
  if (config_.rate.limits()) {
    if (must) return fail(name_ + ": vhost cannot limit the rate; use vhost=off, or limit the tap with tc");
    log::warning("{}: vhost cannot limit the rate: this process serves the queues", name_);
    return {};
  }
  std::vector<std::unique_ptr<Vhost>> made;
  for (std::size_t i = 0; i < pairs_.size(); ++i) {
    const int descriptor = config_.vhost_fds.empty() ? -1 : static_cast<int>(config_.vhost_fds[i]);
    auto vhost = Vhost::create(kernel, descriptor, memory_);
    if (!vhost && must) return fail(name_, vhost.error());
    if (!vhost) {
      log::warning("{}: {}; this process serves the queues", name_, vhost.error().message);
      return {};
    }
    made.push_back(std::move(*vhost));
  }
  for (std::size_t i = 0; i < pairs_.size(); ++i) {
    pairs_[i].vhost = std::move(made[i]);
    BALLOON_TRY(watch_vhost(pairs_[i]));
  }
  return {};
}

Result<void> Net::watch_vhost(Pair& pair) {
  for (std::size_t ring = 0; ring < Vhost::kRings; ++ring) {
    const auto queue = static_cast<std::uint16_t>(pair.receive_queue + ring);
    auto call = loop_.watch_event([this, queue] {
      const MutexLock lock(mutex());
      if (active_) host().interrupt_queue(queue);
    });
    if (!call) return fail(name_, call.error());
    pair.calls[ring] = std::move(*call);
  }
  const int error = pair.vhost->error_event();
  return loop_.watch(error, [this, &pair, error] {
    std::uint64_t count = 0;
    if (::read(error, &count, sizeof count) == sizeof count) on_vhost_error(pair);
  });
}

}  // namespace balloon::vmm

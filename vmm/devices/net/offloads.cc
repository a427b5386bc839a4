// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/offloads.h"

#include <array>

#include "vmm/devices/net/header.h"

namespace balloon::vmm {
namespace {

using namespace net_feature;  // NOLINT: the names of the features are what this file is about

struct Offload {
  unsigned tun;
  std::uint64_t guest;  ///< the driver can receive such frames
  std::uint64_t host;   ///< the driver may send such frames
};
// HOST_USO stands for both kinds of UDP segments (virtio 1.3, 5.1.3); kernels have both or none.
constexpr std::array kOffloads = {
    Offload{tun_offload::kCsum, kGuestCsum, kCsum},     Offload{tun_offload::kTso4, kGuestTso4, kHostTso4},
    Offload{tun_offload::kTso6, kGuestTso6, kHostTso6}, Offload{tun_offload::kEcn, kGuestEcn, kHostEcn},
    Offload{tun_offload::kUfo, kGuestUfo, kHostUfo},    Offload{tun_offload::kUso4, kGuestUso4, kHostUso},
    Offload{tun_offload::kUso6, kGuestUso6, kHostUso},
};

}  // namespace

std::uint64_t features_of_offloads(unsigned offloads) {
  std::uint64_t features = 0;
  for (const Offload& offload : kOffloads) {
    if ((offloads & offload.tun) != 0) features |= offload.guest | offload.host;
  }
  return features;
}

unsigned offloads_of_features(std::uint64_t features) {
  unsigned offloads = 0;
  for (const Offload& offload : kOffloads) {
    if ((consistent(features) & offload.guest) != 0) offloads |= offload.tun;
  }
  // Kernels take UDP segmentation for both versions of IP or not at all (drivers/net/tun.c, set_offload()).
  if ((offloads & tun_offload::kUso) != tun_offload::kUso) offloads &= ~tun_offload::kUso;
  return offloads;
}

}  // namespace balloon::vmm

// SPDX-License-Identifier: Apache-2.0
// Offloads of a tap (TUN_F_* of linux/if_tun.h) and the virtio features they stand for. Pure.
#pragma once

#include <cstdint>

namespace balloon::vmm {

namespace tun_offload {
inline constexpr unsigned kCsum = 0x01;
inline constexpr unsigned kTso4 = 0x02;
inline constexpr unsigned kTso6 = 0x04;
inline constexpr unsigned kEcn = 0x08;
inline constexpr unsigned kTso = kTso4 | kTso6 | kEcn;
inline constexpr unsigned kUfo = 0x10;
// Since Linux 6.2; newer than the headers we build with.
inline constexpr unsigned kUso4 = 0x20;
inline constexpr unsigned kUso6 = 0x40;
inline constexpr unsigned kUso = kUso4 | kUso6;
}  // namespace tun_offload

/// What a device whose tap knows `offloads` can offer, in both directions.
std::uint64_t features_of_offloads(unsigned offloads);
/// What the tap is told when the driver negotiated, or later switched on, `features`.
unsigned offloads_of_features(std::uint64_t features);

}  // namespace balloon::vmm

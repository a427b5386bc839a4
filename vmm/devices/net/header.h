// SPDX-License-Identifier: Apache-2.0
// What stands before each frame (virtio 1.2, 5.1.6), and the feature bits that decide on it (5.1.3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vmm/virtio/device.h"

namespace balloon::vmm {

namespace net_feature {
inline constexpr std::uint64_t kCsum = 1ULL << 0;
inline constexpr std::uint64_t kGuestCsum = 1ULL << 1;
inline constexpr std::uint64_t kCtrlGuestOffloads = 1ULL << 2;
inline constexpr std::uint64_t kMtu = 1ULL << 3;
inline constexpr std::uint64_t kMac = 1ULL << 5;
inline constexpr std::uint64_t kGuestTso4 = 1ULL << 7;
inline constexpr std::uint64_t kGuestTso6 = 1ULL << 8;
inline constexpr std::uint64_t kGuestEcn = 1ULL << 9;
inline constexpr std::uint64_t kGuestUfo = 1ULL << 10;
inline constexpr std::uint64_t kHostTso4 = 1ULL << 11;
inline constexpr std::uint64_t kHostTso6 = 1ULL << 12;
inline constexpr std::uint64_t kHostEcn = 1ULL << 13;
inline constexpr std::uint64_t kHostUfo = 1ULL << 14;
inline constexpr std::uint64_t kMrgRxbuf = 1ULL << 15;
inline constexpr std::uint64_t kStatus = 1ULL << 16;
inline constexpr std::uint64_t kCtrlVq = 1ULL << 17;
inline constexpr std::uint64_t kCtrlRx = 1ULL << 18;
inline constexpr std::uint64_t kGuestAnnounce = 1ULL << 21;
inline constexpr std::uint64_t kMq = 1ULL << 22;
inline constexpr std::uint64_t kCtrlMacAddr = 1ULL << 23;
// virtio 1.3: segmentation of UDP.
inline constexpr std::uint64_t kGuestUso4 = 1ULL << 54;
inline constexpr std::uint64_t kGuestUso6 = 1ULL << 55;
inline constexpr std::uint64_t kHostUso = 1ULL << 56;

inline constexpr std::uint64_t kGuestSegmentation =
    kGuestTso4 | kGuestTso6 | kGuestEcn | kGuestUfo | kGuestUso4 | kGuestUso6;
inline constexpr std::uint64_t kHostSegmentation = kHostTso4 | kHostTso6 | kHostEcn | kHostUfo | kHostUso;
/// What VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET may switch (5.1.6.5.6).
inline constexpr std::uint64_t kGuestOffloads = kGuestCsum | kGuestSegmentation;
}  // namespace net_feature

/// struct virtio_net_hdr. A legacy driver without MRG_RXBUF has it without the last field.
struct NetHeader {
  static constexpr std::uint8_t kNeedsCsum = 1;
  static constexpr std::uint8_t kGsoNone = 0;
  static constexpr std::uint8_t kGsoTcp4 = 1;
  static constexpr std::uint8_t kGsoUdp = 3;
  static constexpr std::uint8_t kGsoTcp6 = 4;
  static constexpr std::uint8_t kGsoUdpSegments = 5;
  static constexpr std::uint8_t kGsoEcn = 0x80;

  std::uint8_t flags = 0;
  std::uint8_t gso_type = kGsoNone;
  std::uint16_t header_length = 0;
  std::uint16_t gso_size = 0;
  std::uint16_t csum_start = 0;
  std::uint16_t csum_offset = 0;
  std::uint16_t num_buffers = 0;
};
static_assert(sizeof(NetHeader) == 12);

/// The one place that knows the header's size (the class of CVE-2023-6693).
constexpr std::size_t header_size(std::uint64_t features) {
  return (features & (kFeatureVersion1 | net_feature::kMrgRxbuf)) != 0 ? 12 : 10;
}

/// Feature bit requirements of network devices (5.1.3.1; USO: virtio 1.3, 5.1.3.1).
std::span<const FeatureDependency> net_dependencies();
/// `features` without those whose prerequisite is missing: legacy drivers cannot be refused.
std::uint64_t consistent(std::uint64_t features);

/// What may be told to the kernel about a frame of `frame_size` bytes that a guest sends with this header;
/// nothing when the header makes no sense or asks for what was not negotiated (openvmm #2968, #3128). With no
/// offload negotiated at all the header is not looked at: legacy drivers leave garbage there.
std::optional<NetHeader> checked_send_header(const NetHeader& from_guest, std::uint64_t frame_size,
                                             std::uint64_t features);

}  // namespace balloon::vmm

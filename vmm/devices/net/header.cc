// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/header.h"

namespace balloon::vmm {
namespace {

using namespace net_feature;  // NOLINT: the constants of this very file's header

constexpr std::uint64_t kChecksumField = 2;

/// The feature that allows a segmentation type; nothing for an unknown type.
std::optional<std::uint64_t> needed_feature(std::uint8_t type) {
  switch (type) {
    case NetHeader::kGsoTcp4:
      return kHostTso4;
    case NetHeader::kGsoTcp6:
      return kHostTso6;
    case NetHeader::kGsoUdp:
      return kHostUfo;
    case NetHeader::kGsoUdpSegments:
      return kHostUso;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::span<const FeatureDependency> net_dependencies() {
  static constexpr FeatureDependency kAll[] = {
      {kGuestTso4, kGuestCsum},  {kGuestTso6, kGuestCsum}, {kGuestEcn, kGuestTso4 | kGuestTso6},
      {kGuestUfo, kGuestCsum},   {kGuestUso4, kGuestCsum}, {kGuestUso6, kGuestCsum},
      {kHostTso4, kCsum},        {kHostTso6, kCsum},       {kHostEcn, kHostTso4 | kHostTso6},
      {kHostUfo, kCsum},         {kHostUso, kCsum},        {kCtrlRx, kCtrlVq},
      {kGuestAnnounce, kCtrlVq}, {kMq, kCtrlVq},           {kCtrlMacAddr, kCtrlVq},
  };
  return kAll;
}

std::uint64_t consistent(std::uint64_t features) {
  features = without_unmet(net_dependencies(), features);
  // Not among the rules; without the queue it is of no use.
  return (features & kCtrlVq) != 0 ? features : features & ~kCtrlGuestOffloads;
}

std::optional<NetHeader> checked_send_header(const NetHeader& from_guest, std::uint64_t frame_size,
                                             std::uint64_t features) {
  NetHeader header;
  if ((features & kCsum) == 0) return header;
  // Unknown flags are ignored (5.1.6.2.2).
  header.flags = from_guest.flags & NetHeader::kNeedsCsum;
  if (header.flags != 0) {
    header.csum_start = from_guest.csum_start;
    header.csum_offset = from_guest.csum_offset;
    if (std::uint64_t{header.csum_start} + header.csum_offset + kChecksumField > frame_size)
      return std::nullopt;
  }
  if (from_guest.gso_type == NetHeader::kGsoNone) return header;

  const bool ecn = (from_guest.gso_type & NetHeader::kGsoEcn) != 0;
  const auto type = static_cast<std::uint8_t>(from_guest.gso_type & ~NetHeader::kGsoEcn);
  const auto needed = needed_feature(type);
  if (!needed || (features & *needed) == 0 || (ecn && (features & kHostEcn) == 0)) return std::nullopt;
  // A segment's checksum is always for the device to fill in (5.1.6.2.1).
  if (header.flags == 0 || from_guest.gso_size == 0) return std::nullopt;
  header.gso_type = from_guest.gso_type;
  header.gso_size = from_guest.gso_size;
  // A hint (5.1.6.2.2): what is larger than the frame tells nothing, and the kernel would refuse the frame.
  header.header_length = from_guest.header_length <= frame_size ? from_guest.header_length : std::uint16_t{0};
  return header;
}

}  // namespace balloon::vmm

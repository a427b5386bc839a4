// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/control_queue.h"

#include <algorithm>
#include <optional>
#include <type_traits>

#include "vmm/devices/net/header.h"

namespace balloon::vmm {
namespace {

using namespace net_feature;  // NOLINT: what each command depends on

/// Class and command of each (5.1.6.5).
constexpr std::uint16_t command(std::uint8_t of_class, std::uint8_t number) {
  return static_cast<std::uint16_t>(of_class << 8 | number);
}
constexpr std::uint16_t kRxPromisc = command(0, 0);
constexpr std::uint16_t kRxAllMulti = command(0, 1);
constexpr std::uint16_t kMacTableSet = command(1, 0);
constexpr std::uint16_t kMacAddrSet = command(1, 1);
constexpr std::uint16_t kAnnounceAck = command(3, 0);
constexpr std::uint16_t kQueuePairsSet = command(4, 0);
constexpr std::uint16_t kGuestOffloadsSet = command(5, 0);

constexpr MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/// Reads a command piece by piece; every byte is copied once.
class Reader {
 public:
  explicit Reader(const Chain& chain) : chain_(chain) {}

  template <typename T>
    requires std::is_trivially_copyable_v<T>
  std::optional<T> next() {
    T value{};
    if (chain_.read(at_, std::as_writable_bytes(std::span(&value, 1))) != sizeof value) return std::nullopt;
    at_ += sizeof value;
    return value;
  }

  /// A table of addresses: how many, then they. Those past ReceiveFilter::kTable are skipped.
  struct Table {
    std::vector<MacAddress> addresses;
    bool whole;
  };
  std::optional<Table> next_table() {
    const auto count = next<std::uint32_t>();
    const std::uint64_t size = std::uint64_t{count.value_or(0)} * sizeof(MacAddress);
    if (!count || size > chain_.readable_size() - at_) return std::nullopt;
    Table table{.addresses = {}, .whole = *count <= ReceiveFilter::kTable};
    const std::uint64_t end = at_ + size;
    for (std::uint32_t i = 0; table.whole && i < *count; ++i) {
      const auto address = next<MacAddress>();
      if (!address) return std::nullopt;
      table.addresses.push_back(*address);
    }
    at_ = end;
    return table;
  }

 private:
  const Chain& chain_;
  std::uint64_t at_ = 0;
};

bool set_switch(Reader& reader, bool ReceiveFilter::* which, NetCommands& commands) {
  const auto on = reader.next<std::uint8_t>();
  if (!on) return false;
  commands.filter().*which = *on != 0;
  return commands.filter_changed();
}

bool set_table(Reader& reader, NetCommands& commands) {
  auto unicast = reader.next_table();
  if (!unicast) return false;
  auto multicast = reader.next_table();
  if (!multicast) return false;
  ReceiveFilter& filter = commands.filter();
  filter.all_unicast = !unicast->whole;
  filter.unicast = std::move(unicast->addresses);
  filter.multicast = std::move(multicast->addresses);
  filter.multicast_overflow = !multicast->whole;
  return commands.filter_changed();
}

bool carry_out(Reader& reader, std::uint64_t features, NetCommands& commands) {
  const auto of_class = reader.next<std::uint8_t>();
  const auto number = reader.next<std::uint8_t>();
  if (!of_class || !number) return false;
  const auto negotiated = [&](std::uint64_t feature) { return (features & feature) != 0; };
  switch (command(*of_class, *number)) {
    case kRxPromisc:
      return negotiated(kCtrlRx) && set_switch(reader, &ReceiveFilter::promiscuous, commands);
    case kRxAllMulti:
      return negotiated(kCtrlRx) && set_switch(reader, &ReceiveFilter::all_multicast, commands);
    case kMacTableSet:
      return negotiated(kCtrlRx) && set_table(reader, commands);
    case kMacAddrSet: {
      const auto mac = negotiated(kCtrlMacAddr) ? reader.next<MacAddress>() : std::nullopt;
      return mac && commands.set_mac(*mac);
    }
    case kAnnounceAck:
      return negotiated(kGuestAnnounce) && commands.announced();
    case kQueuePairsSet: {
      const auto pairs = negotiated(kMq) ? reader.next<std::uint16_t>() : std::nullopt;
      return pairs && commands.set_queue_pairs(*pairs);
    }
    case kGuestOffloadsSet: {
      const auto wanted = negotiated(kCtrlGuestOffloads) ? reader.next<std::uint64_t>() : std::nullopt;
      // Only what was negotiated can be switched on (5.1.6.5.6.1).
      return wanted && (*wanted & ~(features & kGuestOffloads)) == 0 && commands.set_guest_offloads(*wanted);
    }
    default:
      return false;
  }
}

}  // namespace

std::vector<MacAddress> ReceiveFilter::addresses(const MacAddress& mac) const {
  std::vector<MacAddress> all = {mac, kBroadcast};
  all.insert(all.end(), unicast.begin(), unicast.end());
  all.insert(all.end(), multicast.begin(), multicast.end());
  return all;
}

std::uint32_t answer_control(const Chain& chain, std::uint64_t features, NetCommands& commands) {
  if (chain.writable_size() == 0) return 0;  // nowhere to answer
  Reader reader(chain);
  const std::byte answer{carry_out(reader, features, commands) ? kControlOk : kControlError};
  return static_cast<std::uint32_t>(chain.write(0, std::span(&answer, 1)));
}

}  // namespace balloon::vmm

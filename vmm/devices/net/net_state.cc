// SPDX-License-Identifier: Apache-2.0
// A network device's state in snapshots: the cable, and what the guest set through the control queue.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/devices/net/net.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm {

void Net::save(StateWriter& writer) const {
  wishes_->carry_out();  // a cable that was pulled before is pulled afterwards
  writer.section(name_);
  writer.put(space_.mac);
  writer.put(cable_);
  writer.put(guest_offloads_);
  writer.put(static_cast<std::uint32_t>(std::ranges::count_if(pairs_, &Pair::used)));
  writer.put(filter_.promiscuous);
  writer.put(filter_.all_multicast);
  writer.put(filter_.all_unicast);
  writer.put(filter_.multicast_overflow);
  writer.list(filter_.unicast);
  writer.list(filter_.multicast);
}

Result<void> Net::load(StateReader& reader) {
  BALLOON_TRY(reader.section(name_));
  const auto mac = reader.get<MacAddress>();
  const bool cable = reader.get<std::uint8_t>() != 0;
  const auto offloads = reader.get<std::uint64_t>();
  const auto pairs = reader.get<std::uint32_t>();
  ReceiveFilter filter;
  const auto flag = [&] { return reader.get<std::uint8_t>() != 0; };
  filter.promiscuous = flag();
  filter.all_multicast = flag();
  filter.all_unicast = flag();
  filter.multicast_overflow = flag();
  filter.unicast = reader.list<MacAddress>();
  filter.multicast = reader.list<MacAddress>();
  BALLOON_TRY(reader.check());
  if (filter.unicast.size() > ReceiveFilter::kTable || filter.multicast.size() > ReceiveFilter::kTable)
    return fail(fmt::format("{}: its receive filter has too many addresses", name_));
  filter_ = std::move(filter);
  // The guest's address, even where this VMM would have chosen another one.
  if (!set_mac(mac)) return fail(fmt::format("{}: its MAC address is none", name_));
  if (!config_.mac) first_mac_ = mac;
  plug(cable);  // as it was, whatever this VMM's options say
  if (!active_) return {};
  if (pairs > 0 && !set_queue_pairs(pairs)) {
    return fail(
        fmt::format("{}: the guest uses {} queue pairs, this machine has {}", name_, pairs, pairs_.size()));
  }
  if (!set_guest_offloads(offloads & features_))
    return fail(
        fmt::format("{}: the tap cannot do what the guest was promised (offloads {:#x})", name_, offloads));
  return {};
}

}  // namespace balloon::vmm

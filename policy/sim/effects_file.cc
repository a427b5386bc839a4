// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/effects_file.h"

#include <array>

#include "policy/sim/scenario_values.h"

namespace balloon::policy::sim {
namespace {

using yaml::Map;
using yaml::Value;

using DeviceMaker = SwapDevice (*)(Bytes);
using DeviceName = std::pair<std::string_view, DeviceMaker>;
constexpr std::array kDevices = {DeviceName{"nvme", &SwapDevice::nvme}, DeviceName{"zram", &SwapDevice::zram},
                                 DeviceName{"hdd", &SwapDevice::hdd}, DeviceName{"disk", &SwapDevice::hdd}};
constexpr std::array kPlainDevices = {
    DeviceName{"nvme", &SwapDevice::plain_nvme}, DeviceName{"zram", &SwapDevice::plain_zram},
    DeviceName{"hdd", &SwapDevice::plain_hdd}, DeviceName{"disk", &SwapDevice::plain_hdd}};
using DiskMaker = Disk (*)();
using DiskName = std::pair<std::string_view, DiskMaker>;
constexpr std::array kDisks = {DiskName{"nvme", &Disk::nvme}, DiskName{"hdd", &Disk::hdd},
                               DiskName{"disk", &Disk::hdd}};

}  // namespace

void read_guest_effects(Map& map, GuestEffects& out) {
  ratio(map, "mapped", out.mapped);
  map.field("reread", out.reread);
  map.map("noise", [&](Map& noise) {
    ratio(noise, "rest", out.noise_rest);
    ratio(noise, "load", out.noise_load);
  });
  ratio(map, "lru_error", out.lru_error);
  ratio(map, "split", out.split);
  ratio(map, "split_cost", out.split_cost);
}

void read_effects(Map& root, Effects& out) {
  root.with("effects", [&](const Value& value) {
    std::string text;
    if (!value.is_map()) {
      if (!value.read(text)) return;
      if (text != "off")
        return value.complain(fmt::format("expected off, or a mapping of effects, found '{}'", text));
      out = Effects::off();
      return;
    }
    value.map([&](Map& map) {
      read_guest_effects(map, out.guest);
      map.field("device_costs", out.host.device_costs);
      map.field("arc_rule", out.host.arc_rule);
      map.field("as_balloond", out.host.as_balloond);
    });
  });
}

void read_swap(Map& map, bool device_costs, SwapDevice& out) {
  map.bytes("size", out.size);
  DeviceMaker device = nullptr;
  choice<DeviceMaker>(map, "device", device_costs ? kDevices : kPlainDevices, device);
  const Bytes size = out.size;
  if (device) out = device(size);
  const auto own = [&] {  // figures of its own are of a device that costs nothing else
    const SwapDevice was = out;
    out = {size, was.latency, was.bandwidth};
  };
  double bandwidth = 0;
  map.with("bandwidth", [&](const Value& value) {
    Bytes bytes{};
    if (!value.read_bytes(bytes)) return;
    bandwidth = static_cast<double>(bytes);
    if (bytes == Bytes{0}) return value.complain("expected a bandwidth above 0");
    own();
    out.bandwidth = bandwidth;
  });
  map.with("latency", [&](const Value& value) {
    Time latency{};
    if (!value.read(latency)) return;
    own();
    out.latency = latency;
  });
}

void read_disk(Map& map, Disk& out) {
  DiskMaker disk = nullptr;
  choice<DiskMaker>(map, "device", kDisks, disk);
  if (disk) out = disk();
  speed_above_0(map, "bandwidth", out.bandwidth);
  map.field("latency", out.latency);
}

}  // namespace balloon::policy::sim

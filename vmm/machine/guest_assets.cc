// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/guest_assets.h"

#include <utility>

namespace balloon::vmm {

Result<std::shared_ptr<GuestAssets>> GuestAssets::open(const VmmConfig& config) {
  auto assets = std::make_shared<GuestAssets>(
      GuestAssets{.boot = open_boot_files(config.boot), .disks = {}, .nets = {}});
  for (const BlockConfig& config_of_disk : config.disks) {
    auto disk = open_disk(config_of_disk);
    if (!disk) return std::unexpected(std::move(disk.error()));
    assets->disks.push_back(std::move(*disk));
  }
  for (const NetConfig& config_of_net : config.nets) {
    auto port = open_net_port(config_of_net);
    if (!port) return std::unexpected(std::move(port.error()));
    assets->nets.push_back(std::move(*port));
  }
  if (!assets->boot && config.restore.empty()) return std::unexpected(assets->boot.error());
  return assets;
}

}  // namespace balloon::vmm

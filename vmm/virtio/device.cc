// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/device.h"

#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm {

void VirtioDevice::save(StateWriter& writer) const {
  std::vector<std::byte> config(config_size());
  // Reading changes nothing; it is not const because devices fill in what they count.
  const_cast<VirtioDevice*>(this)->read_config(0, config);
  writer.section(name());
  writer.list(config);
}

Result<void> VirtioDevice::load(StateReader& reader) {
  BALLOON_TRY(reader.section(name()));
  const auto config = reader.list<std::byte>();
  BALLOON_TRY(reader.check());
  if (config.size() != config_size())
    return fail(std::string(name()) + ": the config space has another size");
  // As if the driver wrote it: what it may not write stays as this machine has it.
  if (!config.empty()) write_config(0, config);
  return {};
}

}  // namespace balloon::vmm

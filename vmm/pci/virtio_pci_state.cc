// SPDX-License-Identifier: Apache-2.0
// A virtio function's state in snapshots: the function's own, its messages and its pin; the transport has the
// rest.

#include "vmm/pci/virtio_pci.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm {
using namespace virtio_pci;  // NOLINT: the constants of the transport's own header

Result<void> VirtioPci::save(StateWriter& writer) const {
  BALLOON_TRY(PciDevice::save(writer));
  msix_.save(writer);
  writer.section("vectors");
  writer.put(config_vector_.load());
  for (const auto& vector : queue_vectors_) writer.put(vector.load());
  save_driver(writer);
  return {};
}

Result<void> VirtioPci::load(StateReader& reader) {
  BALLOON_TRY(PciDevice::load(reader));
  BALLOON_TRY(msix_.load(reader));
  msix_.set_control(config_.get<std::uint16_t>(msix_capability_ + 2U));
  pin_forbidden_ =
      (config_.get<std::uint16_t>(PciConfigSpace::kCommand) & PciConfigSpace::kCommandNoPin) != 0;
  BALLOON_TRY(reader.section("vectors"));
  config_vector_ = checked_vector(reader.get<std::uint16_t>());
  for (auto& vector : queue_vectors_) vector = checked_vector(reader.get<std::uint16_t>());
  BALLOON_TRY(reader.check());
  return load_driver(reader);
}

}  // namespace balloon::vmm

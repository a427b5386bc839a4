// SPDX-License-Identifier: Apache-2.0
// Which virtio interface a guest's devices show.
#pragma once

namespace balloon::vmm {

enum class VirtioInterface {
  modern,        ///< virtio 1.0 and later only
  transitional,  ///< both: the driver chooses
  legacy,        ///< the interface from before virtio 1.0 only (virtio 1.2, 4.1.4.10), for old guests
  mmio,          ///< no PCI functions: virtio-mmio windows (4.2), virtio 1.0 and later
};

struct TransportConfig {
  VirtioInterface interface = VirtioInterface::modern;
  /// Offers packed rings to drivers that know them. Off, as in QEMU: drivers are best tested with split ones.
  bool packed_rings = false;
};

}  // namespace balloon::vmm

// How the machine makes its virtio devices.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "vmm/devices/balloon/balloon_control.h"
#include "vmm/event_loop.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/device.h"

namespace balloon::vmm {

struct BalloonConfig {
  Bytes initial_target = 0;  ///< 0: the boot memory (an empty balloon)
  bool deflate_on_oom = true;
  bool free_page_reporting = true;
  /// Off: what reporting gives back all the time needs no hinting, and a guest that clears what it allocates
  /// (init_on_alloc) touches all of its free memory to hint it.
  bool free_page_hinting = false;
};

/// The balloon device and its control; both point to one object, which `device` owns.
struct BalloonDevice {
  std::unique_ptr<VirtioDevice> device;
  BalloonControl* control;
};
/// Fails only when the process is out of file descriptors (timer, event).
Result<BalloonDevice> make_balloon(const BalloonConfig& config, const GuestMemory& memory, EventLoop& loop);

struct BlockConfig {
  std::string path;  ///< raw image: a regular file or block device
  bool read_only = false;
  std::string serial{};  ///< at most 20 bytes (VIRTIO_BLK_ID_BYTES)
};
/// Fails with what is wrong with the image: absent, no permission, 0 bytes, not a multiple of 512, in use by
/// another VMM.
Result<std::unique_ptr<VirtioDevice>> make_block(const BlockConfig& config, const GuestMemory& memory,
                                                 EventLoop& loop);

using MacAddress = std::array<std::uint8_t, 6>;
struct NetConfig {
  std::string tap;                  ///< name of a tap interface
  std::optional<MacAddress> mac{};  ///< unset: random, locally administered
};
/// Fails with what is wrong with the tap: no such interface, no permission, busy.
Result<std::unique_ptr<VirtioDevice>> make_net(const NetConfig& config, const GuestMemory& memory,
                                               EventLoop& loop);

}  // namespace balloon::vmm

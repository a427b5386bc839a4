// How the machine makes its virtio devices.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "vmm/devices/balloon/balloon_control.h"
#include "vmm/devices/block/block_info.h"
#include "vmm/devices/identity.h"
#include "vmm/devices/net/net_config.h"
#include "vmm/devices/net/net_control.h"
#include "vmm/event_loop.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/device.h"

namespace balloon::vmm {

struct BalloonConfig {
  bool enabled = true;       ///< false: the guest has none
  Bytes initial_target = 0;  ///< 0: the boot memory (an empty balloon)
  bool deflate_on_oom = true;
  bool free_page_reporting = true;
  /// Off: what reporting gives back all the time needs no hinting, and a guest that clears what it allocates
  /// (init_on_alloc) touches all of its free memory to hint it.
  bool free_page_hinting = false;
  DeviceIdentity identity{};
};

/// The balloon device and its control; both point to one object, which `device` owns.
struct BalloonDevice {
  std::unique_ptr<VirtioDevice> device;
  BalloonControl* control;
};
/// Fails only when the process is out of file descriptors (timer, event).
Result<BalloonDevice> make_balloon(const BalloonConfig& config, const GuestMemory& memory, EventLoop& loop);

enum class BlockFormat {
  by_name,  ///< qcow2 when the path ends with ".qcow2", else raw; never by the content, which a guest writes
  raw,
  qcow2,
};
/// Which files of the host a qcow2 image may name as what lies below it.
enum class BackingFiles { off, same_directory, any };
/// Where a write is when the guest is told that it is done, and what makes it safe.
enum class BlockCache {
  writeback,     ///< in the host's page cache; the guest's flush makes it safe
  writethrough,  ///< on the medium
  none,          ///< past the host's page cache (O_DIRECT); the guest's flush makes it safe
};
enum class BlockEngine { automatic, io_uring, threads };
/// Whether the image is locked against other programs.
enum class BlockLock {
  on,    ///< or it is not opened
  warn,  ///< or, where its filesystem has no locks, there is a warning in the log
  off,
};

/// What becomes of a request that the image could not do; the values are QEMU's.
enum class ErrorPolicy {
  report,  ///< the guest has an I/O error
  ignore,  ///< the guest is told that it was done
  stop,    ///< the guest is stopped until it is told to go on; then it is tried again
  enospc,  ///< stop where the host's disk is full, report all else
};

struct BlockConfig {
  std::string path;  ///< an image: a regular file or block device
  bool read_only = false;
  std::string serial{};  ///< at most 20 bytes (VIRTIO_BLK_ID_BYTES)
  BlockFormat format = BlockFormat::by_name;
  BackingFiles backing = BackingFiles::same_directory;
  BlockCache cache = BlockCache::writeback;
  BlockEngine engine = BlockEngine::automatic;
  BlockLock lock = BlockLock::on;
  ErrorPolicy write_errors = ErrorPolicy::report;  ///< and of all else that changes the image
  ErrorPolicy read_errors = ErrorPolicy::report;
  std::uint32_t queues = 1;        ///< 1 to kMaxBlockQueues
  std::uint32_t block_size = 512;  ///< logical, as the guest sees it: 512 to 4096, a power of two
  bool discard = true;             ///< whether the guest may give room back
  // Limits over time, of reads and writes together; 0: none. A burst of 0 is a tenth of a second's worth.
  Bytes bytes_per_second = 0;
  Bytes burst_bytes = 0;
  std::uint32_t requests_per_second = 0;
  std::uint32_t burst_requests = 0;
  DeviceIdentity identity{};
};
inline constexpr std::uint32_t kMaxBlockQueues = 64;  ///< one a vCPU
/// The disk and its control; both point to one object, which `device` owns.
struct BlockDevice {
  std::unique_ptr<VirtioDevice> device;
  BlockControl* control;
};
class Disk;
/// Opens the image, for as long as the guest has it, through all its reboots. Fails with what is wrong with
/// it: absent, no permission, 0 bytes, not a multiple of 512, in use by another VMM, of a format or with
/// features that are not known.
Result<std::shared_ptr<Disk>> open_disk(const BlockConfig& config);
/// One device at a time on a disk. Fails with what the configuration and the image have against each other.
Result<BlockDevice> make_block(const BlockConfig& config, std::shared_ptr<Disk> disk, EventLoop& loop);

/// The network device and its control; both point to one object, which `device` owns.
struct NetDevice {
  std::unique_ptr<VirtioDevice> device;
  NetControl* control;
};
/// Opens the taps and chooses the address, for as long as the guest has them, through all its reboots. Fails
/// with what is wrong with the tap: no such interface, no permission, busy; or with the address.
Result<NetPort> open_net_port(const NetConfig& config);
/// One device at a time on a port. Fails with what is wrong with the taps, or with vhost, where it must be.
Result<NetDevice> make_net(const NetConfig& config, const NetPort& port, const GuestMemory& memory,
                           EventLoop& loop);

struct RngConfig {
  bool enabled = true;
  Bytes bytes_per_second = 0;  ///< 0: no limit
};
/// Fails only when the process is out of file descriptors.
Result<std::unique_ptr<VirtioDevice>> make_rng(const RngConfig& config, EventLoop& loop);

class SerialBackend;
/// The virtio console; `backend` must outlive it. Likewise.
Result<std::unique_ptr<VirtioDevice>> make_console(SerialBackend& backend, EventLoop& loop);

}  // namespace balloon::vmm

// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/image.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "vmm/devices/block/qcow2_format.h"
#include "vmm/devices/block/request.h"

namespace balloon::vmm {
namespace {

Result<std::unique_ptr<Image>> open_checked_raw(const BlockConfig& config, bool direct) {
  auto image = open_raw(config.path, config.read_only, direct, config.lock);
  if (!image) return image;
  if ((*image)->size() == 0) return fail("it has 0 bytes; make one, for example with truncate --size 4G");
  // What a guest writes to the start of a raw disk must not decide how the next start reads it: so the format
  // is never guessed from the content, only a likely mistake is noticed.
  std::array<std::byte, sizeof(std::uint32_t)> start{};
  BALLOON_TRY((*image)->file().read_padded(0, start));
  if (config.format == BlockFormat::by_name && looks_like_qcow2(start)) {
    return fail(
        "it looks like a qcow2 image: say format=qcow2, or format=raw when its guest made it look so");
  }
  if ((*image)->size() % kSectorSize != 0) {
    const std::uint64_t whole = ((*image)->size() / kSectorSize + 1) * kSectorSize;
    return fail(
        fmt::format("its size of {} bytes is no multiple of {}; if it is a raw image, make it {} with "
                    "truncate --size {}",
                    (*image)->size(), kSectorSize, whole, whole));
  }
  const DiskFile& file = (*image)->file();
  if ((*image)->size() % file.alignment() != 0) {
    return fail(
        fmt::format("its size of {} bytes is no multiple of {}, as cache none needs here: use cache "
                    "writeback, or make it larger with truncate",
                    (*image)->size(), file.alignment()));
  }
  return image;
}

}  // namespace

Result<std::unique_ptr<Image>> open_image(const BlockConfig& config) {
  const bool direct = config.cache == BlockCache::none;
  const bool qcow2 = config.format == BlockFormat::qcow2 ||
                     (config.format == BlockFormat::by_name && config.path.ends_with(".qcow2"));
  auto image =
      qcow2 ? open_qcow2(config.path, config.read_only, direct, config.backing, kMaxBackingDepth, config.lock)
            : open_checked_raw(config, direct);
  if (!image) return fail(fmt::format("disk image {}", config.path), image.error());
  return image;
}

}  // namespace balloon::vmm

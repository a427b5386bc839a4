// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "vmm/devices/block/image.h"

namespace balloon::vmm {
namespace {

class RawImage final : public Image {
 public:
  explicit RawImage(DiskFile file) : file_(std::move(file)), size_(file_.end()) {}

  std::string_view format() const override { return "raw"; }
  std::uint64_t size() const override { return size_; }
  DiskFile& file() override { return file_; }
  ImageInfo info() const override {
    return {.path = file_.path(),
            .format = "raw",
            .virtual_size = Bytes{size_},
            .allocated = Bytes{file_.allocated()},
            .backing_name = {},
            .backing = nullptr};
  }
  std::uint64_t discard_granularity() const override { return file_.physical_block(); }

  Result<Extent> map(std::uint64_t offset, std::uint64_t size, Access /*access*/) override {
    return Extent{.kind = Extent::Kind::file, .size = size, .file = &file_, .offset = offset};
  }
  bool maps_at_once(std::uint64_t /*offset*/, std::uint64_t /*size*/) const override { return true; }
  Result<void> read(std::uint64_t offset, std::span<std::byte> into) override {
    return file_.read(offset, into);
  }
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from) override {
    return file_.write(offset, from);
  }
  Result<void> zero(std::uint64_t offset, std::uint64_t size, bool may_unmap) override {
    if (may_unmap && file_.punch(offset, size)) return {};
    const AlignedBuffer zeros(std::min<std::uint64_t>(size, DiskFile::kBounceSize));
    std::ranges::fill(zeros.bytes(), std::byte{0});
    while (size > 0) {
      const auto part = zeros.bytes().first(std::min<std::uint64_t>(size, zeros.bytes().size()));
      BALLOON_TRY(file_.write(offset, part));
      offset += part.size();
      size -= part.size();
    }
    return {};
  }
  Result<void> discard(std::uint64_t offset, std::uint64_t size) override {
    file_.punch(offset, size);
    return {};
  }
  bool has_changes() const override { return false; }
  Result<void> flush(bool /*idle*/) override { return file_.sync(); }
  bool wants_idle() const override { return false; }

 private:
  DiskFile file_;
  const std::uint64_t size_;
};

}  // namespace

Result<std::unique_ptr<Image>> open_raw(const std::string& path, bool read_only, bool direct,
                                        BlockLock lock) {
  auto file = DiskFile::open(path, read_only, direct, lock);
  if (!file) return std::unexpected(std::move(file.error()));
  return std::make_unique<RawImage>(std::move(*file));
}

}  // namespace balloon::vmm

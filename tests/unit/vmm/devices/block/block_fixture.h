// SPDX-License-Identifier: Apache-2.0
// A block device on an image of 64 sectors, and the fake driver in front of it.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/vmm/devices/block/disk_fixture.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "vmm/devices/block/block.h"

namespace balloon::vmm::test {

inline constexpr std::uint32_t kIn = 0;
inline constexpr std::uint32_t kOut = 1;
inline constexpr std::uint32_t kFlush = 4;
inline constexpr std::uint32_t kGetId = 8;
inline constexpr std::uint32_t kDiscard = 11;
inline constexpr std::uint32_t kWriteZeroes = 13;

inline constexpr std::uint8_t kOk = 0;
inline constexpr std::uint8_t kIoError = 1;
inline constexpr std::uint8_t kUnsupported = 2;
inline constexpr std::uint8_t kUntouched = 0xff;

inline constexpr std::uint64_t kSectors = 64;

inline std::vector<std::byte> pattern(std::size_t size, int seed) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(i * 7 + static_cast<std::size_t>(seed) + i / 512);
  return bytes;
}

class BlockTest : public ::testing::Test {
 protected:
  BlockTest() { write_image(pattern(kSectors * kSectorSize, 3)); }
  ~BlockTest() override {
    driver_.reset();
    block_.reset();
  }

  void write_image(const std::vector<std::byte>& content) {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
  }
  std::vector<std::byte> image(std::uint64_t sector, std::size_t size) const {
    std::vector<std::byte> content(size);
    std::ifstream file(path_, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(sector * kSectorSize));
    file.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(size));
    return content;
  }
  void start(bool read_only = false, std::string serial = "serial-1") {
    start({.path = path_, .read_only = read_only, .serial = std::move(serial)});
  }
  void start(const BlockConfig& config, std::uint64_t features = ~0ULL) {
    auto disk = open_disk(config);
    if (!disk) throw std::runtime_error(disk.error().message);
    auto block = Block::create(config, std::move(*disk), *loop_);
    if (!block) throw std::runtime_error(block.error().message);
    block_ = std::move(*block);
    driver_.emplace(*block_, memory_);
    driver_->start(features);
  }

  std::vector<std::byte> header(std::uint32_t type, std::uint64_t sector) {
    std::vector<std::byte> bytes(16);
    std::memcpy(bytes.data(), &type, sizeof type);
    std::memcpy(bytes.data() + 8, &sector, sizeof sector);
    return bytes;
  }
  GuestAddress status_byte() {
    const GuestAddress address = queue().allocate(1);
    memory_.write(address, kUntouched);
    return address;
  }
  struct Answer {
    std::uint8_t status;
    std::uint32_t written;
  };
  Answer finish(ChainBuilder& builder, GuestAddress status, bool indirect = false) {
    if (indirect) {
      builder.submit_indirect();
    } else {
      builder.submit();
    }
    const auto used = driver_->kick_and_wait(0);
    if (!used) throw std::runtime_error("the request did not come back: " + driver_->host().reset_reason());
    return {*memory_.read<std::uint8_t>(status), used->length};
  }
  Answer write(std::uint64_t sector, const std::vector<std::byte>& data) {
    const GuestAddress status = status_byte();
    ChainBuilder builder(queue());
    builder.readable(header(kOut, sector)).readable(data).writable_at(status, 1);
    return finish(builder, status);
  }
  /// A request without device-readable data.
  Answer request(std::uint32_t type, std::uint64_t sector, std::uint32_t size,
                 std::vector<std::byte>* data = nullptr) {
    const GuestAddress status = status_byte();
    ChainBuilder builder(queue());
    builder.readable(header(type, sector));
    if (size > 0) builder.writable(size);
    builder.writable_at(status, 1);
    const Answer answer = finish(builder, status);
    if (data != nullptr) {
      data->resize(size);
      memory_.read(builder.address(1), *data);
    }
    return answer;
  }
  /// Discard or write-zeroes of these segments, of which the last `cut` bytes are missing.
  Answer clear(std::uint32_t type, const std::vector<BlockSegment>& segments, std::size_t cut = 0) {
    const GuestAddress status = status_byte();
    ChainBuilder builder(queue());
    builder.readable(header(type, 0));
    const auto bytes = std::as_bytes(std::span(segments));
    if (!bytes.empty()) builder.readable(bytes.first(bytes.size() - cut));
    builder.writable_at(status, 1);
    return finish(builder, status);
  }
  test::FakeQueue& queue() { return driver_->queue(0); }
  std::string refusal(const BlockConfig& config) {
    auto disk = open_disk(config);
    if (!disk) return disk.error().message;
    const auto block = make_block(config, std::move(*disk), *loop_);
    return block ? "" : block.error().message;
  }

  Directory directory_;
  std::string path_ = directory_ / "disk.img";
  GuestMemory memory_ = make_memory(16 * kMiB);
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test");
  std::unique_ptr<Block> block_;
  std::optional<FakeDriver> driver_;
};

}  // namespace balloon::vmm::test

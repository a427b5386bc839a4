// SPDX-License-Identifier: Apache-2.0
// Images for tests: made, checked and converted by qemu-img, which knows qcow2 best.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "vmm/devices/block/disk.h"

namespace balloon::vmm::test {

/// A directory of its own, gone at the end. Not in memory: O_DIRECT needs a real filesystem.
class Directory {
 public:
  Directory() {
    std::string name = "/var/tmp/balloon-block-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

struct Said {
  int status = -1;
  std::string text;
};

/// Runs qemu-img with these arguments; what it printed.
inline Said qemu_img(const std::string& arguments) {
  Said said;
  FILE* pipe = ::popen(("qemu-img " + arguments + " 2>&1").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("popen");
  std::array<char, 4096> buffer;
  while (const std::size_t size = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    said.text.append(buffer.data(), size);
  }
  const int status = ::pclose(pipe);
  said.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return said;
}

inline void make_image(const std::string& arguments) {
  const Said said = qemu_img("create -q " + arguments);
  if (said.status != 0) throw std::runtime_error("qemu-img create " + arguments + ": " + said.text);
}

inline std::vector<std::byte> content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

inline void write_file(const std::string& path, std::span<const std::byte> content) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
}

/// What the guest would see of the image, as qemu-img converts it.
inline std::vector<std::byte> converted(const std::string& path, const std::string& format,
                                        const std::string& options = "") {
  const std::string raw = path + ".converted";
  const Said said = qemu_img("convert -f " + format + " -O raw " + options + " " + path + " " + raw);
  if (said.status != 0) throw std::runtime_error("qemu-img convert: " + said.text);
  auto content = content_of(raw);
  std::filesystem::remove(raw);
  return content;
}

inline std::vector<std::byte> noise(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

/// Two contents are the same; says where not, rather than printing megabytes.
inline ::testing::AssertionResult same(std::span<const std::byte> actual,
                                       std::span<const std::byte> expected) {
  if (actual.size() != expected.size()) {
    return ::testing::AssertionFailure() << actual.size() << " bytes, expected " << expected.size();
  }
  const auto difference = std::ranges::mismatch(actual, expected);
  if (difference.in1 == actual.end()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "they differ from byte " << difference.in1 - actual.begin() << " on";
}

/// A disk whose requests are waited for one by one, or gathered.
class TestDisk {
 public:
  explicit TestDisk(const BlockConfig& config) {
    auto disk = Disk::open(config, [](DiskRequest&) {});
    if (!disk) throw std::runtime_error(disk.error().message);
    disk_ = std::move(*disk);
  }

  Result<void> read(std::uint64_t offset, std::span<std::byte> into) {
    DiskRequest request{.kind = DiskRequest::Kind::read,
                        .offset = offset,
                        .buffers = {{.iov_base = into.data(), .iov_len = into.size()}}};
    return run(request);
  }
  std::vector<std::byte> read(std::uint64_t offset, std::size_t size) {
    AlignedBuffer buffer(size);
    const auto done = read(offset, buffer.bytes());
    if (!done) throw std::runtime_error(done.error().message);
    return {buffer.bytes().begin(), buffer.bytes().end()};
  }
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from, bool durable = false) {
    AlignedBuffer buffer(from.size());
    std::ranges::copy(from, buffer.bytes().begin());
    DiskRequest request{.kind = DiskRequest::Kind::write,
                        .offset = offset,
                        .buffers = {{.iov_base = buffer.bytes().data(), .iov_len = from.size()}},
                        .durable = durable};
    return run(request);
  }
  Result<void> flush() {
    DiskRequest request{.kind = DiskRequest::Kind::flush};
    return run(request);
  }
  Result<void> discard(std::uint64_t offset, std::uint64_t size) {
    DiskRequest request{.kind = DiskRequest::Kind::discard, .ranges = {{offset, size}}};
    return run(request);
  }
  Result<void> zero(std::uint64_t offset, std::uint64_t size, bool may_unmap = true) {
    DiskRequest request{.kind = DiskRequest::Kind::zero, .ranges = {{offset, size}}, .may_unmap = may_unmap};
    return run(request);
  }
  Result<void> run(DiskRequest& request) {
    disk_->start(request);
    disk_->drain();
    return request.result;
  }
  Disk& disk() { return *disk_; }
  std::uint64_t size() const { return disk_->image().size(); }

 private:
  std::unique_ptr<Disk> disk_;
};

/// Why an image is refused; empty when it is not.
inline std::string refusal(const BlockConfig& config) {
  const auto image = open_image(config);
  return image ? "" : image.error().message;
}

/// Does `count` random operations on the disk and on `model`, which is what it should hold. Sectors of 512.
inline void exercise(TestDisk& disk, std::vector<std::byte>& model, int count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const std::uint64_t sectors = model.size() / 512;
  const auto number = [&](std::uint64_t below) { return random() % below; };
  for (int i = 0; i < count; ++i) {
    // Mostly small ones, some of several clusters; half of them aligned as a filesystem's are.
    std::uint64_t first = number(sectors);
    std::uint64_t length = 1 + (number(4) == 0 ? number(600) : number(16));
    if (number(2) == 0) first = first / 8 * 8, length = (length + 7) / 8 * 8;
    length = std::min(length, sectors - first);
    const std::uint64_t offset = first * 512;
    const std::size_t size = length * 512;
    const auto there = std::span(model).subspan(offset, size);
    switch (number(8)) {
      case 0: {
        ASSERT_TRUE(disk.zero(offset, size, number(2) == 0));
        std::ranges::fill(there, std::byte{0});
        break;
      }
      case 1: {
        ASSERT_TRUE(disk.discard(offset, size));
        // The guest may read anything there then; so it writes it anew.
        [[fallthrough]];
      }
      case 2:
      case 3:
      case 4: {
        std::ranges::copy(noise(size, random()), there.begin());
        const auto done = disk.write(offset, there, number(16) == 0);
        ASSERT_TRUE(done) << done.error().message;
        break;
      }
      case 5:
        if (number(4) == 0) {
          ASSERT_TRUE(disk.flush());
        }
        break;
      default:
        ASSERT_TRUE(same(disk.read(offset, size), there)) << "operation " << i << ", byte " << offset;
    }
  }
}

}  // namespace balloon::vmm::test

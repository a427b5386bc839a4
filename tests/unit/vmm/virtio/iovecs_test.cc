// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/iovecs.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

namespace balloon::vmm {
namespace {

class IovecsTest : public ::testing::Test {
 protected:
  IovecsTest() {
    const std::string_view text = "abcdefghij";
    for (std::size_t i = 0; i < text.size(); ++i) memory_[i] = static_cast<std::byte>(text[i]);
    const std::span<std::byte> all(memory_);
    buffers_ = {{.address = 0, .host = all.first(3)},
                {.address = 3, .host = all.subspan(3, 1)},
                {.address = 4, .host = all.subspan(4)}};
  }
  static std::string text(std::span<const iovec> iovecs) {
    std::string all;
    for (const iovec& part : iovecs) all.append(static_cast<const char*>(part.iov_base), part.iov_len);
    return all;
  }

  std::array<std::byte, 10> memory_;
  std::vector<ChainBuffer> buffers_;
  std::vector<iovec> iovecs_;
};

TEST_F(IovecsTest, AnyPartOfTheBuffersIsCovered) {
  const std::string whole = "abcdefghij";
  for (std::size_t offset = 0; offset <= 12; ++offset) {
    for (std::size_t size = 0; size <= 12; ++size) {
      to_iovecs(buffers_, offset, size, iovecs_);
      EXPECT_EQ(text(iovecs_), offset < whole.size() ? whole.substr(offset, size) : "")
          << offset << " " << size;
    }
  }
}

TEST_F(IovecsTest, AnyPartOfASliceIsCovered) {
  const std::string whole = "abcdefghij";
  to_iovecs(buffers_, 0, 10, iovecs_);
  EXPECT_EQ(total(iovecs_), 10U);
  for (std::size_t offset = 0; offset <= 12; ++offset) {
    for (std::size_t size = 0; size <= 12; ++size) {
      EXPECT_EQ(text(slice(iovecs_, offset, size)), offset < whole.size() ? whole.substr(offset, size) : "")
          << offset << " " << size;
    }
  }
}

TEST_F(IovecsTest, NoPartIsEmpty) {  // an iovec of nothing costs the kernel as much as any other
  to_iovecs(buffers_, 1, 2, iovecs_);
  EXPECT_EQ(iovecs_.size(), 1U);
  to_iovecs(buffers_, 3, 1, iovecs_);
  EXPECT_EQ(iovecs_.size(), 1U);
  to_iovecs(buffers_, 0, 10, iovecs_);
  EXPECT_EQ(iovecs_.size(), 3U);
  EXPECT_EQ(slice(iovecs_, 1, 2).size(), 1U);
  EXPECT_EQ(slice(iovecs_, 3, 1).size(), 1U);
  EXPECT_EQ(drop_front(iovecs_, 4).size(), 1U);
}

TEST_F(IovecsTest, ZerosFillAPartAndNothingBesideIt) {
  to_iovecs(buffers_, 0, 10, iovecs_);
  fill_zeros(slice(iovecs_, 2, 5));
  EXPECT_EQ(text(iovecs_), std::string("ab\0\0\0\0\0hij", 10));
}

TEST_F(IovecsTest, WhatAShortTransferDidIsDroppedWhereverItStopped) {
  for (std::size_t done = 0; done <= 10; ++done) {
    to_iovecs(buffers_, 0, 10, iovecs_);
    EXPECT_EQ(text(drop_front(iovecs_, done)), std::string("abcdefghij").substr(done)) << done;
  }
}

}  // namespace
}  // namespace balloon::vmm

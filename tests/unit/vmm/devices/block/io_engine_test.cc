// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/io_engine.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "tests/unit/vmm/devices/block/disk_fixture.h"

namespace balloon::vmm {
namespace {

using namespace test;

class EveryEngine : public ::testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<IoEngine> make(IoEngine::Done done) {
    auto engine = GetParam() == std::string("io_uring") ? make_uring_engine(std::move(done))
                                                        : make_thread_engine(std::move(done));
    if (!engine) throw std::runtime_error(engine.error().message);
    return std::move(*engine);
  }
  Directory directory_;
  UniqueFd file_{::open((directory_ / "file").c_str(), O_RDWR | O_CREAT, 0600)};
};

TEST_P(EveryEngine, TellsByItsDescriptorWhenThereIsSomethingToCollect) {
  int done = 0;
  const auto engine = make([&](FileIo&) { ++done; });
  FileIo io{.kind = FileIo::Kind::flush, .fd = file_.get()};
  engine->start(io);
  engine->submit();
  pollfd readable{.fd = engine->fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&readable, 1, 30'000), 1);
  EXPECT_EQ(done, 0) << "nothing is called before collect()";
  engine->collect();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(io.result, 0);
  EXPECT_EQ(::poll(&readable, 1, 0), 0) << "and nothing is left to collect";
}

TEST_P(EveryEngine, ErrorsAreTheKernels) {
  const auto engine = make([](FileIo&) {});
  std::byte byte{};
  iovec buffer{.iov_base = &byte, .iov_len = 1};
  FileIo io{.kind = FileIo::Kind::read, .fd = -1, .buffers = {&buffer, 1}};
  engine->start(io);
  engine->drain();
  EXPECT_EQ(io.result, -EBADF);
}

TEST_P(EveryEngine, WhatIsDoneMayStartMoreAndWaitForIt) {
  int done = 0;
  std::unique_ptr<IoEngine> engine;
  std::vector<FileIo> ios(20, FileIo{.kind = FileIo::Kind::flush, .fd = file_.get()});
  engine = make([&](FileIo&) {
    if (++done == 1) {
      for (std::size_t i = 10; i < ios.size(); ++i) engine->start(ios[i]);
      engine->drain();  // in the midst of the other's completions
      EXPECT_EQ(done, 20);
    }
  });
  for (std::size_t i = 0; i < 10; ++i) engine->start(ios[i]);
  engine->drain();
  EXPECT_EQ(done, 20);
  EXPECT_EQ(engine->in_flight(), 0U);
}

TEST_P(EveryEngine, TransfersAndHolesHaveTheirEffect) {
  const auto engine = make([](FileIo&) {});
  const auto content = noise(65536, 1);
  auto copy = content;
  iovec buffer{.iov_base = copy.data(), .iov_len = copy.size()};
  FileIo write{.kind = FileIo::Kind::write, .fd = file_.get(), .buffers = {&buffer, 1}, .durable = true};
  engine->start(write);
  engine->drain();
  EXPECT_EQ(write.result, 65536);
  FileIo hole{.kind = FileIo::Kind::punch_hole, .fd = file_.get(), .offset = 4096, .size = 8192};
  engine->start(hole);
  engine->drain();
  EXPECT_EQ(hole.result, 0);
  auto expected = content;
  std::fill_n(expected.begin() + 4096, 8192, std::byte{0});
  EXPECT_TRUE(same(content_of(directory_ / "file"), expected));
}

INSTANTIATE_TEST_SUITE_P(Engines, EveryEngine, ::testing::Values("io_uring", "threads"),
                         [](const auto& kind) { return kind.param; });

}  // namespace
}  // namespace balloon::vmm

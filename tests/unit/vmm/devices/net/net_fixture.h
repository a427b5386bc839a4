// SPDX-License-Identifier: Apache-2.0
// A network device on a real tap, and the fake driver in front of it.
#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/vmm/devices/net/host_tap.h"
#include "vmm/devices/devices.h"
#include "vmm/devices/net/net.h"

namespace balloon::vmm::test {

inline constexpr std::uint16_t kReceive = 0;
inline constexpr std::uint16_t kSend = 1;

inline Result<std::unique_ptr<Net>> create_net(const NetConfig& config, const GuestMemory& memory,
                                               EventLoop& loop, VhostKernel& kernel) {
  const auto port = open_net_port(config);
  if (!port) return std::unexpected(port.error());
  return Net::create(config, *port, memory, loop, kernel);
}

class NetTest : public ::testing::Test {
 protected:
  ~NetTest() override {
    driver_.reset();
    net_.reset();
  }
  /// Without offloads and merging, unless the test says so.
  static constexpr std::uint64_t kPlain =
      kFeatureIndirectDesc | kFeatureEventIdx | net_feature::kMac | net_feature::kStatus;
  static NetConfig config() { return {.tap = kTap, .mac = MacAddress{2, 0, 0, 0, 0, 7}}; }
  void start(std::uint64_t features = kPlain, const NetConfig& with = config()) {
    auto net = create_net(with, memory_, *loop_, kernel_);
    if (!net) throw std::runtime_error(net.error().message);
    net_ = std::move(*net);
    driver_.emplace(*net_, memory_);
    driver_->start(features);
  }
  /// Gives the device a receive buffer; its address.
  GuestAddress post_buffer(std::uint32_t size = 1530) {
    ChainBuilder builder(queue(kReceive));
    builder.writable(size).submit();
    driver_->kick(kReceive);
    return builder.address(0);
  }
  std::optional<UsedElement> wait_received() {
    std::optional<UsedElement> used;
    eventually([&] { return (used = queue(kReceive).pop_used()).has_value(); });
    return used;
  }
  std::vector<std::byte> bytes_at(GuestAddress address, std::size_t size) {
    std::vector<std::byte> bytes(size);
    memory_.read(address, bytes);
    return bytes;
  }
  void send(const std::vector<std::byte>& header, const std::vector<std::byte>& data) {
    ChainBuilder builder(queue(kSend));
    if (!header.empty()) builder.readable(header);
    if (!data.empty()) builder.readable(data);
    builder.submit();
    const auto used = driver_->kick_and_wait(kSend);
    ASSERT_TRUE(used);
    EXPECT_EQ(used->length, 0U);
  }
  FakeQueue& queue(std::uint16_t index) { return driver_->queue(index); }
  std::string refusal(const std::string& tap) {
    const auto net = create_net({.tap = tap}, memory_, *loop_, kernel_);
    return net ? "" : net.error().message;
  }
  /// CPU time of the loop's thread and all others of this process.
  static double cpu_seconds() {
    timespec now;
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
  }

  const std::vector<std::byte> no_offload_ = std::vector<std::byte>(12);
  GuestMemory memory_ = make_memory(16 * kMiB);
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test");
  VhostKernel kernel_;
  HostTap tap_;
  std::unique_ptr<Net> net_;
  std::optional<FakeDriver> driver_;
};

}  // namespace balloon::vmm::test

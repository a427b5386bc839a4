// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config_net.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/machine/config.h"

namespace balloon::vmm {
namespace {

using ::testing::HasSubstr;
using Vhost = NetConfig::Vhost;

/// What is wrong with the flag, empty when nothing is.
std::string complaint(std::string_view text) {
  const auto net = parse_net(text);
  if (!net) return net.error().message;
  const auto checked = check_net(*net);
  return checked ? "" : checked.error().message;
}

TEST(ConfigNetTest, AFlagHasEverySetting) {
  const auto net = parse_net(
      "tap=tap0,mac=52:54:00:12:34:56,queues=4,queue-size=1024,vnet-hdr=on,offload=off,vhost=force,mtu=9000,"
      "link=down");
  ASSERT_TRUE(net) << net.error().message;
  EXPECT_EQ(net->tap, "tap0");
  EXPECT_EQ(net->mac, (MacAddress{0x52, 0x54, 0, 0x12, 0x34, 0x56}));
  EXPECT_EQ(net->pairs(), 4U);
  EXPECT_EQ(net->queue_size, 1024U);
  EXPECT_FALSE(net->offload);
  EXPECT_EQ(net->vhost, Vhost::force);
  EXPECT_EQ(net->mtu, 9000U);
  EXPECT_FALSE(net->link);
  EXPECT_TRUE(check_net(*net));
}

TEST(ConfigNetTest, DescriptorsAndRatesAreRead) {
  const auto net = parse_net(
      "fds=10:11,vhost-fds=12:13,rate-bytes=10MiB,rate-bytes-burst=1MiB,rate-frames=1000,rate-frames-burst="
      "10");
  ASSERT_TRUE(net) << net.error().message;
  EXPECT_EQ(net->fds, (std::vector<std::uint32_t>{10, 11}));
  EXPECT_EQ(net->vhost_fds, (std::vector<std::uint32_t>{12, 13}));
  EXPECT_EQ(net->pairs(), 2U);
  EXPECT_EQ(net->backend(), "fd 10");
  EXPECT_EQ(net->rate.bytes, 10 * kMiB);
  EXPECT_EQ(net->rate.frames_burst, 10U);
}

TEST(ConfigNetTest, YamlSaysTheSame) {
  VmmConfig config;
  const auto read = read_config(
      "nets:\n"
      "  - {tap: tap0, mac: \"52:54:00:12:34:56\", queues: 2, queue_size: 512, vhost: on, vnet_hdr: true, "
      "offload: false,\n"
      "     mtu: 1400, link: down, rate: {bytes: 1MiB, bytes_burst: 2MiB, frames: 3, frames_burst: 4}}\n"
      "  - {fds: [7, 8], vhost_fds: [9, 10]}\n",
      "test.yaml", config);
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(config.nets.size(), 2U);
  const NetConfig& net = config.nets[0];
  EXPECT_EQ(net.vhost, Vhost::on);
  EXPECT_EQ(net.queues, 2U);
  EXPECT_EQ(net.queue_size, 512U);
  EXPECT_EQ(net.mtu, 1400U);
  EXPECT_FALSE(net.link || net.offload);
  EXPECT_EQ(net.rate.bytes, kMiB);
  EXPECT_EQ(net.rate.bytes_burst, 2 * kMiB);
  EXPECT_EQ(net.rate.frames, 3U);
  EXPECT_EQ(net.rate.frames_burst, 4U);
  EXPECT_EQ(config.nets[1].fds, (std::vector<std::uint32_t>{7, 8}));
  EXPECT_EQ(config.nets[1].vhost_fds, (std::vector<std::uint32_t>{9, 10}));
}

TEST(ConfigNetTest, WhatCannotBeIsRefusedWithWhatToDo) {
  EXPECT_THAT(complaint("mac=52:54:00:12:34:56"), HasSubstr("no tap="));
  EXPECT_THAT(complaint("tap=t,fds=3"), HasSubstr("both tap and fds"));
  EXPECT_THAT(complaint("tap=t,vhost=maybe"), HasSubstr("use off, on or force"));
  EXPECT_THAT(complaint("tap=t,link=x"), HasSubstr("use up or down"));
  EXPECT_THAT(complaint("tap=t,queues=0"), HasSubstr("within 1 to 64"));
  EXPECT_THAT(complaint("tap=t,queues=65"), HasSubstr("within 1 to 64"));
  EXPECT_THAT(complaint("tap=t,queues=-1"), HasSubstr("not a whole number"));
  EXPECT_THAT(complaint("tap=t,queue-size=300"), HasSubstr("power of two within 64 to 1024"));
  EXPECT_THAT(complaint("tap=t,mtu=67"), HasSubstr("within 68 to 65535"));
  EXPECT_THAT(complaint("fds=3:x"), HasSubstr("not a whole number"));
  EXPECT_THAT(complaint("fds=3:4,queues=3"), HasSubstr("2 fds make as many queues, not 3"));
  EXPECT_THAT(complaint("fds=3,vnet-hdr=off"), HasSubstr("up to who opened it"));
  EXPECT_THAT(complaint("tap=t,queues=2,vhost-fds=5"), HasSubstr("1 vhost fds for 2 queues"));
  EXPECT_THAT(complaint("tap=t,vhost=force,rate-frames=5"), HasSubstr("vhost cannot limit the rate"));
  EXPECT_EQ(complaint("tap=t,vhost=on,rate-frames=5"), "");
}

}  // namespace
}  // namespace balloon::vmm

// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/header.h"

#include <gtest/gtest.h>

#include "vmm/devices/net/offloads.h"

namespace balloon::vmm {
namespace {

using namespace net_feature;  // NOLINT: what the tests are about

constexpr std::uint64_t kAll = kCsum | kHostSegmentation;
constexpr std::uint64_t kFrame = 3000;

NetHeader tcp4() {
  return {.flags = NetHeader::kNeedsCsum,
          .gso_type = NetHeader::kGsoTcp4,
          .header_length = 54,
          .gso_size = 1448,
          .csum_start = 34,
          .csum_offset = 16,
          .num_buffers = 0};
}

TEST(NetHeaderTest, ItsSizeFollowsFromWhatWasNegotiated) {  // CVE-2023-6693
  EXPECT_EQ(header_size(0), 10U);
  EXPECT_EQ(header_size(kMrgRxbuf), 12U);
  EXPECT_EQ(header_size(kFeatureVersion1), 12U);
}

TEST(NetHeaderTest, AGoodHeaderPassesUnchanged) {
  const auto checked = checked_send_header(tcp4(), kFrame, kAll);
  ASSERT_TRUE(checked);
  EXPECT_EQ(checked->gso_type, NetHeader::kGsoTcp4);
  EXPECT_EQ(checked->gso_size, 1448);
  EXPECT_EQ(checked->csum_start, 34);
  EXPECT_EQ(checked->csum_offset, 16);
  EXPECT_EQ(checked->header_length, 54);
}

TEST(NetHeaderTest, WithoutOffloadsGarbageIsIgnored) {
  NetHeader garbage;
  garbage.flags = garbage.gso_type = 0xff;
  garbage.csum_start = garbage.csum_offset = 0xffff;
  const auto checked = checked_send_header(garbage, 60, 0);
  ASSERT_TRUE(checked);
  EXPECT_EQ(checked->flags, 0);
  EXPECT_EQ(checked->gso_type, 0);
}

TEST(NetHeaderTest, SegmentationThatWasNotNegotiatedIsRefused) {  // openvmm #2968
  EXPECT_FALSE(checked_send_header(tcp4(), kFrame, kCsum));
  EXPECT_FALSE(checked_send_header(tcp4(), kFrame, kCsum | kHostTso6 | kHostUfo | kHostUso));
  auto udp = tcp4();
  udp.gso_type = NetHeader::kGsoUdpSegments;
  EXPECT_FALSE(checked_send_header(udp, kFrame, kCsum | kHostUfo));
  EXPECT_TRUE(checked_send_header(udp, kFrame, kCsum | kHostUso));
  auto ecn = tcp4();
  ecn.gso_type |= NetHeader::kGsoEcn;
  EXPECT_FALSE(checked_send_header(ecn, kFrame, kCsum | kHostTso4));
  EXPECT_TRUE(checked_send_header(ecn, kFrame, kCsum | kHostTso4 | kHostEcn));
}

TEST(NetHeaderTest, UnknownSegmentationIsRefused) {
  for (const int type : {2, 6, 0x7f, 0x80, 0xff}) {
    auto header = tcp4();
    header.gso_type = static_cast<std::uint8_t>(type);
    EXPECT_FALSE(checked_send_header(header, kFrame, kAll)) << type;
  }
}

TEST(NetHeaderTest,
     SegmentationWithoutAChecksumOrASizeIsRefused) {  // openvmm #3128: the kernel would drop it
  auto header = tcp4();
  header.flags = 0;
  EXPECT_FALSE(checked_send_header(header, kFrame, kAll));
  header = tcp4();
  header.gso_size = 0;
  EXPECT_FALSE(checked_send_header(header, kFrame, kAll));
}

TEST(NetHeaderTest, AChecksumOutsideTheFrameIsRefused) {
  auto header = tcp4();
  header.gso_type = NetHeader::kGsoNone;
  EXPECT_TRUE(checked_send_header(header, 52, kAll));
  EXPECT_FALSE(checked_send_header(header, 51, kAll));
  header.csum_start = header.csum_offset = 0xffff;  // together more than 16 bits
  EXPECT_FALSE(checked_send_header(header, kFrame, kAll));
}

TEST(NetHeaderTest, AHeaderLengthThatCannotBeIsNoHint) {
  auto header = tcp4();
  header.header_length = 0xffff;
  const auto checked = checked_send_header(header, kFrame, kAll);
  ASSERT_TRUE(checked);
  EXPECT_EQ(checked->header_length, 0);
}

TEST(NetHeaderTest, FeaturesWithoutTheirPrerequisiteDoNotCount) {
  EXPECT_EQ(consistent(kHostTso4 | kGuestTso4), 0U);
  EXPECT_EQ(consistent(kCsum | kHostTso4 | kGuestTso4), kCsum | kHostTso4);
  EXPECT_EQ(consistent(kMq | kCtrlRx), 0U);
  EXPECT_EQ(offloads_of_features(kGuestTso4), 0U);
}

TEST(NetHeaderTest, OffloadsOfTheTapAndFeaturesAreTheSameThing) {
  constexpr unsigned kKnown = tun_offload::kCsum | tun_offload::kTso | tun_offload::kUfo | tun_offload::kUso;
  const std::uint64_t features = features_of_offloads(kKnown);
  EXPECT_EQ(features, kCsum | kGuestCsum | kHostSegmentation | kGuestSegmentation);
  EXPECT_EQ(offloads_of_features(features), kKnown);
  EXPECT_EQ(offloads_of_features(kGuestCsum | kGuestUso4), tun_offload::kCsum) << "half of USO is none";
}

}  // namespace
}  // namespace balloon::vmm

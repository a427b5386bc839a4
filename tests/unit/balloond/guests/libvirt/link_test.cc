// SPDX-License-Identifier: Apache-2.0
// libvirt's own library, with the driver that it has for tests: one running domain "test" of 8 GiB.
#include "balloond/guests/libvirt/link.h"

#include <gtest/gtest.h>

#include "balloond/guests/libvirt/client.h"
#include "balloond/guests/libvirt/description.h"

namespace balloon::daemon::libvirt {
namespace {

constexpr const char* kUuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";

class LinkTest : public testing::Test {
 protected:
  LinkTest() {
    const auto started = start_client();
    EXPECT_TRUE(started) << started.error().message;
    auto link = Link::open("test:///default");
    EXPECT_TRUE(link) << link.error().message;
    link_ = std::move(*link);
  }
  std::unique_ptr<Link> link_;
};

TEST_F(LinkTest, RunningDomainsAreSeenWithTheirNamesAndUuids) {
  const auto domains = link_->look();
  ASSERT_TRUE(domains) << domains.error().message;
  ASSERT_EQ(domains->size(), 1U);
  EXPECT_EQ(domains->front().name, "test");
  EXPECT_EQ(domains->front().uuid, kUuid);
  EXPECT_EQ(domains->front().state, VIR_DOMAIN_RUNNING);
  EXPECT_TRUE(link_->alive());
}

TEST_F(LinkTest, ATargetIsWhatIsLeftToTheGuest) {
  ASSERT_TRUE(link_->set_target(kUuid, 3 * kGiB));
  const auto xml = link_->describe(kUuid);
  ASSERT_TRUE(xml);
  EXPECT_EQ(read_description(*xml)->current, 3 * kGiB);
  EXPECT_EQ(read_description(*xml)->memory, 8 * kGiB);
}

TEST_F(LinkTest, WhatLibvirtRefusesIsSaidInItsWords) {
  const auto done = link_->set_target(kUuid, 16 * kGiB);
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("higher than max"), std::string::npos) << done.error().message;
  const auto absent = link_->set_target("00000000-f6a4-8304-79aa-97f2502e193f", kGiB);
  ASSERT_FALSE(absent);
  EXPECT_NE(absent.error().message.find("Domain not found"), std::string::npos) << absent.error().message;
}

TEST_F(LinkTest, ALibvirtThatIsNotThereIsSaidSo) {
  const auto link = Link::open("qemu+unix:///system?socket=/nowhere/libvirt-sock");
  ASSERT_FALSE(link);
  EXPECT_NE(link.error().message.find("/nowhere/libvirt-sock"), std::string::npos) << link.error().message;
}

TEST_F(LinkTest, WhatIsConfiguredForTheNextStartIsNotWhatTheBalloonHas) {
  ASSERT_TRUE(link_->set_target(kUuid, 3 * kGiB));
  const auto xml = link_->describe_next_start(kUuid);
  ASSERT_TRUE(xml) << xml.error().message;
  ASSERT_TRUE(*xml) << "the domain is kept when it ends";
  EXPECT_EQ(read_description(**xml)->memory, 8 * kGiB);
}

}  // namespace
}  // namespace balloon::daemon::libvirt

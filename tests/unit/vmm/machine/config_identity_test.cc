// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config_identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vmm/machine/good_config.h"

namespace balloon::vmm::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ConfigIdentity, DevicesAreCalledByTheirIdOrTheirKindAndNumber) {
  Flags flags = good();
  flags.disks = {"path=/a.img", "path=/b.img,id=data"};
  flags.nets = {"tap=tap0,id=uplink", "tap=tap1"};
  const auto config = make_config(flags);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(disk_names(*config), ElementsAre("disk0", "data"));
  EXPECT_THAT(net_names(*config), ElementsAre("uplink", "net1"));
  EXPECT_EQ(balloon_name(*config), "balloon0");
}

TEST(ConfigIdentity, FlagsAndFileSetThem) {
  Flags flags = good();
  flags.balloon = "id=bal,addr=0x1f";
  auto config = make_config(flags);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->balloon.identity.id, "bal");
  EXPECT_EQ(config->balloon.identity.slot, 31U);
  VmmConfig file;
  const auto read = read_config(
      "disks: [{path: /x.img, id: root, addr: a}]\nnets: [{tap: tap0, id: n, addr: \"5.0\"}]\n"
      "balloon: {enabled: false, id: b, addr: 6}\n",
      "guest.yaml", file);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(file.disks.at(0).identity.id, "root");
  EXPECT_EQ(file.disks.at(0).identity.slot, 10U);
  EXPECT_EQ(file.nets.at(0).identity.slot, 5U);
  EXPECT_FALSE(file.balloon.enabled);
  EXPECT_EQ(file.balloon.identity.slot, 6U);
}

TEST(ConfigIdentity, WhatIsNeitherIdNorAddressIsRefused) {
  Flags flags = good();
  for (const char* id : {"1bal", "-b", "b/c", "", "b c"}) {
    flags.balloon = std::string("id=") + id;
    EXPECT_THAT(error_of(flags), HasSubstr("starts with a letter")) << id;
  }
  for (const char* slot : {"0", "20", "x", "1.1", "", "-1"}) {
    flags.balloon = std::string("addr=") + slot;
    EXPECT_THAT(error_of(flags), HasSubstr("hexadecimal number from 1 to 1f")) << slot;
  }
}

TEST(ConfigIdentity, TwoDevicesHaveNeitherTheSameNameNorTheSameSlot) {
  Flags flags = good();
  flags.disks = {"path=/a.img,id=x", "path=/b.img,id=x"};
  EXPECT_THAT(error_of(flags), HasSubstr("two devices are called 'x'"));
  flags.disks = {"path=/a.img,addr=4"};
  flags.balloon = "addr=4";
  EXPECT_THAT(error_of(flags), HasSubstr("another device has the PCI slot 4"));
  flags.balloon = "id=disk0";
  EXPECT_THAT(error_of(flags), HasSubstr("two devices are called 'disk0'"));
  flags.balloon.reset();
  flags.virtio = "mmio";
  EXPECT_THAT(error_of(flags), HasSubstr("virtio mmio has no PCI"));
}

TEST(ConfigIdentity, AGuestNeedsNoBalloonButThenNoTargetEither) {
  Flags flags = good();
  flags.balloon = "off";
  EXPECT_FALSE(make_config(flags)->balloon.enabled);
  flags.balloon = "off,target=1GiB";
  EXPECT_THAT(error_of(flags), HasSubstr("the guest has no balloon"));
  flags.balloon = "off=1";
  EXPECT_THAT(error_of(flags), HasSubstr("take no value"));
}

}  // namespace
}  // namespace balloon::vmm::test

// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/description.h"

#include <gtest/gtest.h>

namespace balloon::daemon::libvirt {
namespace {

std::string domain(const std::string& more, const std::string& devices = "<memballoon model='virtio'/>") {
  return "<domain type='kvm' id='1'><name>web</name><memory unit='KiB'>1048576</memory>"
         "<currentMemory unit='KiB'>524288</currentMemory><vcpu placement='static'>2</vcpu>" +
         more + "<devices>" + devices + "</devices></domain>";
}

Description read(const std::string& xml) {
  const auto description = read_description(xml);
  EXPECT_TRUE(description) << description.error().message;
  return description.value_or(Description{});
}

TEST(DomainXml, SaysTheMemoryAndTheBalloon) {
  const Description web = read(domain("",
                                      "<memballoon model='virtio' autodeflate='on' freePageReporting='on'>"
                                      "<stats period='5'/></memballoon>"));
  EXPECT_EQ(web.memory, kGiB);
  EXPECT_EQ(web.current, 512 * kMiB);
  EXPECT_EQ(web.vcpus, 2U);
  EXPECT_TRUE(web.has_balloon);
  EXPECT_TRUE(web.deflate_on_oom);
  EXPECT_TRUE(web.free_page_reporting);
  EXPECT_EQ(web.period, std::chrono::seconds(5));
  EXPECT_EQ(web.interlock, "");
}

TEST(DomainXml, ABalloonMayBeMissingOrPlain) {
  EXPECT_FALSE(read(domain("", "<memballoon model='none'/>")).has_balloon);
  EXPECT_FALSE(read(domain("", "")).has_balloon);
  const Description plain = read(domain(""));
  EXPECT_TRUE(plain.has_balloon);
  EXPECT_FALSE(plain.deflate_on_oom);
  EXPECT_EQ(plain.period, std::chrono::seconds(0));
}

TEST(DomainXml, WhatKeepsABalloonFromFreeingMemoryIsNamed) {
  EXPECT_EQ(read(domain("<memoryBacking><locked/></memoryBacking>")).interlock, "its memory is locked");
  EXPECT_EQ(read(domain("<memoryBacking><hugepages/></memoryBacking>")).interlock,
            "its memory is in huge pages of the host");
  EXPECT_EQ(read(domain("<launchSecurity type='sev'/>")).interlock,
            "its memory is encrypted and stays where it is (sev)");
  EXPECT_EQ(read(domain("<launchSecurity type='tdx'/>")).interlock,
            "its memory is encrypted and stays where it is (tdx)");
  EXPECT_EQ(
      read(domain("", "<hostdev mode='subsystem' type='pci' managed='yes'/><memballoon model='virtio'/>"))
          .interlock,
      "its memory is pinned for a device of the host (pci)");
  for (const char* device : {"<interface type='hostdev' managed='yes'/>", "<interface type='vdpa'/>",
                             "<disk type='nvme' device='disk'/>", "<disk type='vhostvdpa' device='disk'/>",
                             "<hostdev mode='subsystem' type='mdev'/>"})
    EXPECT_THAT(read(domain("", device)).interlock, testing::HasSubstr("pinned for a device of the host"))
        << device;
  for (const char* device : {"<hostdev mode='subsystem' type='usb'/>", "<interface type='network'/>",
                             "<disk type='file' device='disk'/>", "<rng model='hostdev' type='hostdev'/>"})
    EXPECT_EQ(read(domain("", device)).interlock, "") << device;
}

TEST(DomainXml, LabelsStandInMetadataOfOurOwnWhateverItsPrefix) {
  const Description web = read(
      domain("<metadata><other xmlns='urn:other'><label name='no' value='1'/></other>"
             "<b:guest xmlns:b='urn:balloond:guest'><b:label name='tier' value='batch'/><b:label name='team' "
             "value='a &amp; b'/></b:guest></metadata>"));
  EXPECT_EQ(web.labels, (std::map<std::string, std::string>{{"tier", "batch"}, {"team", "a & b"}}));
}

TEST(DomainXml, AGuestWithWindowsHasALabelForThat) {
  const auto os = [](const char* id) {
    const Description read_one = read(domain(
        std::string(
            "<metadata><libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
            "<libosinfo:os id='") +
        id + "'/></libosinfo:libosinfo></metadata>"));
    return read_one.labels.contains("os") ? read_one.labels.at("os") : "";
  };
  EXPECT_EQ(os("http://microsoft.com/win/11"), "windows");
  EXPECT_EQ(os("http://debian.org/debian/12"), "");
}

TEST(DomainXml, WhatIsNoDescriptionIsSaidSo) {
  EXPECT_TRUE(
      read_description("<domain><memory>").error().message.starts_with("its description is no XML: "));
  EXPECT_EQ(read_description("<network/>").error().message, "its description is no domain");
}

TEST(DomainXml, AbsurdNumbersDoNotWrapAround) {
  const auto memory = [](const std::string& size) {
    return read("<domain><name>web</name>" + size + "</domain>").memory;
  };
  EXPECT_EQ(memory("<memory unit='KiB'>18014398509481984</memory>"), Bytes::max()) << "2^64 bytes";
  EXPECT_EQ(memory("<memory unit='GiB'>99999999999999999999999</memory>"), Bytes::max());
  EXPECT_EQ(memory("<memory unit='KiB'>-1</memory>"), Bytes{0});
  EXPECT_EQ(memory("<memory unit='furlongs'>1</memory>"), Bytes{0});
  EXPECT_EQ(memory("<memory unit='KiB'>much</memory>"), Bytes{0});
}

}  // namespace
}  // namespace balloon::daemon::libvirt

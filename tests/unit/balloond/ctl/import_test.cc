// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/import.h"

#include <gtest/gtest.h>

#include "policy/rules/policy_file.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::ctl {
namespace {

class ImportTest : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) {
    tree_.write("/" + name, text);
    return tree_.root() + "/" + name;
  }
  /// The printed policy, which must be one.
  static std::string good(const Printed& printed) {
    EXPECT_EQ(printed.code, Exit::ok) << printed.complaint;
    const auto document = yaml::Document::parse(printed.text, "printed");
    EXPECT_TRUE(document);
    if (document) {
      const auto policy = policy::rules::read_policy(*document, 64 * kGiB);
      EXPECT_TRUE(policy) << policy.error().message << printed.text;
    }
    return printed.text;
  }
  std::string domain(const std::string& name, int current, const std::string& more = "",
                     const char* balloon = "virtio") {
    return file(name + ".xml", "<domain type='kvm'><name>" + name +
                                   "</name><memory unit='KiB'>4194304</memory><currentMemory "
                                   "unit='KiB'>" +
                                   std::to_string(current) + "</currentMemory>" + more +
                                   "<devices><memballoon model='" + balloon + "'/></devices></domain>");
  }
  daemon::test::FakeTree tree_;
};

TEST_F(ImportTest, ADomainKeepsItsCurrentMemoryAndMayHaveAllOfIt) {
  EXPECT_EQ(good(import_libvirt({.files = {domain("web", 2097152), domain("db", 4194304)}})),
            "# What libvirt grants its guests today.\n"
            "guests:\n"
            "  - {name: \"web\", min: 2GiB}  # currentMemory; it may have up to 4GiB\n"
            "  - {name: \"db\", max: 100%}  # it has all its memory today, 4GiB\n");
}

TEST_F(ImportTest, ADomainIsNamedAsItsGuestIsWhateverItsNameHas) {
  const std::string out =
      good(import_libvirt({.files = {domain("win 10", 2097152), domain("[a]*", 2097152)}}));
  EXPECT_NE(out.find("{name: \"win_10\", min: 2GiB}"), std::string::npos) << out;
  EXPECT_NE(out.find("{name: \"_a__\", min: 2GiB}"), std::string::npos) << out;
}

TEST_F(ImportTest, DomainsThatCannotBeMovedSaySo) {
  const std::string out = good(import_libvirt(
      {.files = {domain("bare", 2097152, "", "none"),
                 domain("locked", 2097152, "<memoryBacking><locked/></memoryBacking>"),
                 domain("secret", 2097152, "<memoryBacking><nosharepages/></memoryBacking>")}}));
  EXPECT_NE(out.find("\"bare\", max: 100%}  # no balloon device: it is left alone"), std::string::npos)
      << out;
  EXPECT_NE(out.find("\"locked\", max: 100%}  # its memory is locked: it is left alone"), std::string::npos)
      << out;
  EXPECT_NE(out.find("\"secret\", min: 2GiB, ksm: off}"), std::string::npos) << out;
}

TEST_F(ImportTest, AProxmoxGuestKeepsItsBalloonAndShares) {
  EXPECT_EQ(
      good(import_proxmox(
          {.files = {file("100.conf", "name: web\nmemory: 4096\nballoon: 2048\nshares: 2000\n"),
                     file("101.conf", "name: db\nmemory: 4096\nballoon: 2048\nshares: 0\n"),
                     file("102.conf", "memory: current=2048\nballoon: 0\n"),
                     file("103.conf", "memory: 1024\n[old]\nballoon: 512\n")}})),
      "# What Proxmox grants its guests today.\n"
      "guests:\n"
      "  - {labels: {socket: \"100\"}, min: 2GiB, weight: 200}  # web, it may have up to 4GiB\n"
      "  - {labels: {socket: \"101\"}, min: 2GiB, max: 2GiB}  # db, shares: 0, no automatic ballooning\n"
      "  - {labels: {socket: \"102\"}, max: 100%}  # balloon: 0, no balloon device: it is left alone\n"
      "  - {labels: {socket: \"103\"}, max: 100%}  # it has all its memory today, 1GiB\n");
}

TEST_F(ImportTest, WhatCannotBeUnderstoodIsNamed) {
  EXPECT_EQ(import_libvirt({.files = {tree_.root() + "/absent.xml"}}).complaint,
            "balloonctl: " + tree_.root() + "/absent.xml cannot be read");
  const Printed empty = import_proxmox({.files = {file("9.conf", "\n")}});
  EXPECT_EQ(empty.code, Exit::failure);
  EXPECT_NE(empty.complaint.find("9.conf: it is no guest's configuration"), std::string::npos);
  EXPECT_NE(
      import_libvirt({.files = {file("x.xml", "<network/>")}}).complaint.find("its description is no domain"),
      std::string::npos);
}

}  // namespace
}  // namespace balloon::ctl

// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/process_of.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon::libvirt {
namespace {

constexpr const char* kUuid = "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31";

class ProcessOfTest : public testing::Test {
 protected:
  void qemu(int pid, const std::string& uuid) const {
    tree_.write("/proc/" + std::to_string(pid) + "/cmdline",
                std::string("qemu-system-x86_64\0-uuid\0", 25) + uuid + std::string("\0-m\0", 4));
  }
  Peer found() const { return process_of("qemu:///system", "web", kUuid, tree_.root()); }
  test::FakeTree tree_;
};

TEST_F(ProcessOfTest, LibvirtsFileHasTheProcess) {
  qemu(100, kUuid);
  qemu(101, kUuid);
  tree_.write("/run/libvirt/qemu/web.pid", "101");
  EXPECT_EQ(found().pid, 101);
  EXPECT_EQ(found().uid, ::getuid());
}

TEST_F(ProcessOfTest, AFileOfAFormerProcessIsNotBelieved) {
  qemu(100, kUuid);
  qemu(101, "00000000-3a57-4c55-8a2e-33f2b6ea0c31");
  tree_.write("/run/libvirt/qemu/web.pid", "101");
  EXPECT_EQ(found().pid, 100);
}

TEST_F(ProcessOfTest, WithoutAFileItsCommandLineTells) {
  qemu(100, kUuid);
  EXPECT_EQ(found().pid, 100);
}

TEST_F(ProcessOfTest, ADomainThatIsNoProcessHereIsUnknown) {
  qemu(100, "00000000-3a57-4c55-8a2e-33f2b6ea0c31");
  EXPECT_EQ(found().pid, 0);
}

}  // namespace
}  // namespace balloon::daemon::libvirt

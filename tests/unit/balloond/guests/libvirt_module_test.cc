// SPDX-License-Identifier: Apache-2.0
// The backend for libvirt where it is not installed as it should be. As it should be:
// tests/integration/libvirt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "balloond/guests/libvirt/backend.h"
#include "balloond/guests/registry.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using testing::HasSubstr;

std::string complaint_about(const std::string& module) {
  const test::FakeClock clock;
  Registry guests(clock);
  libvirt::Backend backend(clock, guests, module);
  EXPECT_TRUE(backend.manage({}, std::chrono::seconds(1))) << "who configures none needs none";
  const auto managed = backend.manage({LibvirtHost{.uri = "qemu:///system"}}, std::chrono::seconds(1));
  return managed ? "" : managed.error().message;
}

const std::string kPackage =
    "backends.libvirt needs the package balloond-libvirt, of balloond's own version (" BALLOON_VERSION "): ";

TEST(LibvirtModule, WhereItIsMissingThePackageIsNamed) {
  EXPECT_EQ(complaint_about("/nowhere/backend-libvirt.so"),
            kPackage + "/nowhere/backend-libvirt.so is not there");
}

TEST(LibvirtModule, OfAnotherVersionItIsRefused) {
  EXPECT_EQ(complaint_about(ANOTHER_VERSION), kPackage + ANOTHER_VERSION + " is of version 0.0.7");
}

TEST(LibvirtModule, ALibraryOfSomethingElseIsRefused) {
  EXPECT_EQ(complaint_about(SOMETHING_ELSE), kPackage + SOMETHING_ELSE + " is something else");
}

TEST(LibvirtModule, WhatCannotBeLoadedIsRefusedWithTheReason) {
  const std::string text = testing::TempDir() + "/text.so";
  std::ofstream(text) << "no library";
  EXPECT_THAT(complaint_about(text), HasSubstr(kPackage + text + ": "));
}

TEST(LibvirtModule, ItIsLookedForBesideTheProgramAndNeverInTheCurrentDirectory) {
  const std::filesystem::path path = libvirt::module_path();
  EXPECT_TRUE(path.is_absolute()) << path;
  const auto prefix = std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path();
  EXPECT_EQ(path, prefix / "lib/balloond/backend-libvirt.so");
}

}  // namespace
}  // namespace balloon::daemon

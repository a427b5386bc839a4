// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/proxmox/configuration.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/balloond/fakes.h"
#include "tests/unit/balloond/guests/patience.h"

namespace balloon::daemon::proxmox {
namespace {

using namespace std::chrono_literals;

using Labels = std::map<std::string, std::string>;

Labels labels(const std::string& text) {
  const auto guest = read_configuration(text);
  EXPECT_TRUE(guest) << guest.error().message;
  return guest ? limits_of(*guest) : Labels{};
}

TEST(Proxmox, BalloonAndSharesAreMinimumAndWeight) {
  EXPECT_EQ(labels("name: web\nmemory: 4096\nballoon: 2048\nshares: 2000\n"),
            (Labels{{"limits/min", "2 GiB"}, {"limits/weight", "200"}}));
  EXPECT_EQ(labels("memory: current=4096\nballoon: 1536\n"),
            (Labels{{"limits/min", "1536 MiB"}, {"limits/weight", "100"}}));
  EXPECT_EQ(labels("memory: 4096\n"), (Labels{{"limits/min", "4 GiB"}, {"limits/weight", "100"}}))
      << "without a minimum it keeps its memory, as in Proxmox";
}

TEST(Proxmox, NoSharesIsNoBallooning) {
  EXPECT_EQ(labels("memory: 4096\nballoon: 2048\nshares: 0\n"), (Labels{{"limits/control", "off"}}));
}

TEST(Proxmox, AGuestWithoutABalloonHasNoLimits) {
  EXPECT_EQ(labels("memory: 4096\nballoon: 0\nshares: 500\n"), Labels{});
}

TEST(Proxmox, WhatASnapshotHadIsNotWhatTheGuestHas) {
  EXPECT_EQ(labels("balloon: 1024\nmemory: 2048\n[before-upgrade]\nballoon: 512\nshares: 0\n"),
            (Labels{{"limits/min", "1 GiB"}, {"limits/weight", "100"}}));
}

TEST(Proxmox, NumbersThatMakeNoSenseAreLeftOut) {
  for (const char* nonsense : {"-1", "99999999999999999999", "much", ""}) {
    const std::string text(nonsense);
    EXPECT_EQ(labels("memory: 2048\nballoon: " + text + "\nshares: " + text + "\n"),
              (Labels{{"limits/min", "2 GiB"}, {"limits/weight", "100"}}))
        << nonsense;
  }
}

TEST(Proxmox, AFileThatIsNoneIsSaidSo) {
  EXPECT_EQ(read_configuration("#!/bin/sh\n").error().message, "it is no guest's configuration");
  EXPECT_EQ(read_configuration_file("/nowhere/100.conf").error().message, "/nowhere/100.conf cannot be read");
}

// A pipe that nobody writes to is a file whose filesystem hangs.
TEST(Proxmox, AFilesystemThatHangsIsNotWaitedForAndReadAgainOnceItAnswers) {
  const test::FakeTree tree;
  tree.write("/101.conf", "memory: 2048\n");
  const std::string hanging = tree.root() + "/100.conf";
  const std::string good = tree.root() + "/101.conf";
  ASSERT_EQ(::mkfifo(hanging.c_str(), 0600), 0);
  EXPECT_EQ(read_configuration_file(hanging, 50ms).error().message,
            hanging + " could not be read within 50 ms: its filesystem does not answer");
  EXPECT_EQ(read_configuration_file(good).error().message,
            good + " is not read while an earlier read waits for its filesystem");
  const int writer = ::open(hanging.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(writer, 0);
  ::close(writer);
  const auto end = std::chrono::steady_clock::now() + test::kPatience;
  while (!read_configuration_file(good) && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_TRUE(read_configuration_file(good));
}

}  // namespace
}  // namespace balloon::daemon::proxmox

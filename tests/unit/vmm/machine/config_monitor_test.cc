// SPDX-License-Identifier: Apache-2.0
// The parts of the configuration that are about talking to a guest: monitor, console, serial port, random
// numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vmm/machine/good_config.h"

namespace balloon::vmm::test {
namespace {

using Kind = SerialConfig::Kind;
using testing::HasSubstr;

TEST(ConfigMonitor, ByDefaultThereIsAnRngAndNeitherMonitorNorConsole) {
  const auto config = make_config(good());
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_TRUE(config->rng.enabled);
  EXPECT_EQ(config->rng.bytes_per_second, Bytes{0});
  EXPECT_EQ(config->console.kind, Kind::none);
  EXPECT_EQ(config->monitor, "");
}

TEST(ConfigMonitor, FlagsSetThem) {
  Flags flags = good();
  flags.monitor = "/run/qmp";
  flags.restore = "/var/x.snapshot";
  flags.console = "pty:/run/console";
  flags.serial = "pty";
  flags.rng = "bytes-per-second=64K";
  const auto config = make_config(flags);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->monitor, "/run/qmp");
  EXPECT_EQ(config->restore, "/var/x.snapshot");
  EXPECT_EQ(config->console.kind, Kind::pty);
  EXPECT_EQ(config->console.path, "/run/console");
  EXPECT_EQ(config->serial.kind, Kind::pty);
  EXPECT_EQ(config->rng.bytes_per_second, 64 * kKiB);
  flags.rng = "off";
  EXPECT_FALSE(make_config(flags)->rng.enabled);
}

TEST(ConfigMonitor, TheFileSetsThem) {
  VmmConfig config;
  const auto read = read_config(
      "monitor: /run/qmp\nconsole: unix:/run/console\nrng: {enabled: false, bytes_per_second: 1MiB}\n",
      "x.yaml", config);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(config.monitor, "/run/qmp");
  EXPECT_EQ(config.console.kind, Kind::unix_socket);
  EXPECT_FALSE(config.rng.enabled);
  EXPECT_EQ(config.rng.bytes_per_second, kMiB);
}

TEST(ConfigMonitor, TheTerminalsKeysCanBeLeftToTheTerminalOrToTheGuest) {
  EXPECT_EQ(parse_serial("stdio")->keys, SerialConfig::Keys::escape);
  EXPECT_EQ(parse_serial("stdio,keys=signals")->keys, SerialConfig::Keys::signals);
  EXPECT_EQ(parse_serial("stdio,keys=raw")->keys, SerialConfig::Keys::raw);
  EXPECT_THAT(parse_serial("stdio,keys=none").error().message, HasSubstr("use keys=escape, signals or raw"));
}

TEST(ConfigMonitor, AGuestInTheBackgroundHasNoTerminal) {
  Flags flags = good();
  flags.daemonize = true;
  flags.pid_file = "/run/x.pid";
  EXPECT_THAT(error_of(flags), HasSubstr("--serial none"));
  flags.serial = "none";
  const auto config = make_config(flags);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_TRUE(config->daemonize);
  EXPECT_EQ(config->pid_file, "/run/x.pid");
}

TEST(ConfigMonitor, WhatMakesNoSenseIsRefused) {
  Flags flags = good();
  flags.console = "stdio";
  EXPECT_THAT(error_of(flags), HasSubstr("cannot both be on stdio"));
  flags.serial = "none";
  EXPECT_EQ(error_of(flags), "no error");
  flags.console = "tape";
  EXPECT_THAT(error_of(flags), HasSubstr("--console: 'tape' is not one of"));
  flags.console = "unix:/" + std::string(200, 'x');
  EXPECT_THAT(error_of(flags), HasSubstr("107 are allowed"));
  flags.console.reset();
  flags.rng = "bytes-per-second=lots";
  EXPECT_THAT(error_of(flags), HasSubstr("--rng: 'lots' is not a size"));
  flags.rng = "on=1";
  EXPECT_THAT(error_of(flags), HasSubstr("take no value"));
  flags.rng.reset();
  flags.monitor = "/" + std::string(200, 'x');
  EXPECT_THAT(error_of(flags), HasSubstr("--monitor"));
}

}  // namespace
}  // namespace balloon::vmm::test

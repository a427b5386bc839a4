// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/vmm/machine/good_config.h"

namespace balloon::vmm::test {
namespace {

using testing::HasSubstr;

template <typename Change>
std::string error_with(Change change) {
  Flags flags = good();
  change(flags);
  return error_of(flags);
}

TEST(VmmConfig, FlagsMakeAConfiguration) {
  Flags flags = good();
  flags.cpus = "4";
  flags.cmdline = "console=ttyS0";
  flags.initrd = "/boot/initrd";
  flags.disks = {"path=/x.img,readonly,serial=data", "path=/y.img"};
  flags.nets = {"tap=tap0,mac=52:54:00:12:34:56"};
  flags.serial = "unix:/run/console";
  flags.balloon = "target=512M,deflate-on-oom=off,free-page-reporting=off";
  flags.link = "/run/balloond/guest.sock";
  flags.labels = {"role=db", "tier=gold=1"};
  flags.no_reboot = true;
  const auto config = make_config(flags);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->memory, 2 * kGiB);
  EXPECT_EQ(config->cpus, 4U);
  EXPECT_EQ(config->boot.initrd, "/boot/initrd");
  ASSERT_EQ(config->disks.size(), 2U);
  EXPECT_TRUE(config->disks[0].read_only);
  EXPECT_EQ(config->disks[0].serial, "data");
  EXPECT_FALSE(config->disks[1].read_only);
  EXPECT_EQ(config->nets.at(0).mac, (MacAddress{0x52, 0x54, 0, 0x12, 0x34, 0x56}));
  EXPECT_EQ(config->serial.kind, SerialConfig::Kind::unix_socket);
  EXPECT_EQ(config->balloon.initial_target, 512 * kMiB);
  EXPECT_FALSE(config->balloon.deflate_on_oom);
  EXPECT_FALSE(config->balloon.free_page_reporting);
  EXPECT_EQ(config->labels.at("tier"), "gold=1");
  EXPECT_FALSE(config->reboot);
}

TEST(VmmConfig, DefaultsAreThoseOfTheHelp) {
  const auto config = make_config(good());
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->cpus, 1U);
  EXPECT_EQ(config->serial.kind, SerialConfig::Kind::stdio);
  EXPECT_TRUE(config->balloon.deflate_on_oom);
  EXPECT_TRUE(config->balloon.free_page_reporting);
  EXPECT_EQ(config->balloon.initial_target, Bytes{0});
  EXPECT_TRUE(config->reboot);
}

TEST(VmmConfig, WhatIsMissingIsNamed) {
  EXPECT_THAT(error_with([](Flags& f) { f.name.reset(); }), HasSubstr("name is missing"));
  EXPECT_THAT(error_with([](Flags& f) { f.memory.reset(); }), HasSubstr("memory is missing"));
  EXPECT_THAT(error_with([](Flags& f) { f.kernel.reset(); }), HasSubstr("kernel is missing"));
}

TEST(VmmConfig, BadNamesAreRefused) {
  for (const char* name : {"", "a b", "a/b", "ü", "../x"}) {
    EXPECT_THAT(error_with([&](Flags& f) { f.name = name; }), HasSubstr("name")) << name;
  }
  EXPECT_THAT(error_with([](Flags& f) { f.name = std::string(65, 'a'); }), HasSubstr("1 to 64"));
  EXPECT_EQ(error_with([](Flags& f) { f.name = std::string(64, 'a'); }), "no error");
}

TEST(VmmConfig, MemoryThatIsNotASizeIsRefused) {
  EXPECT_THAT(error_with([](Flags& f) { f.memory = "lots"; }), HasSubstr("--memory: 'lots' is not a size"));
  EXPECT_THAT(error_with([](Flags& f) { f.memory = "2048"; }), HasSubstr("no unit"));
  EXPECT_THAT(error_with([](Flags& f) { f.memory = "-1G"; }), HasSubstr("negative"));
}

TEST(VmmConfig, MemoryOutsideItsLimitsIsRefused) {
  EXPECT_THAT(error_with([](Flags& f) { f.memory = "62M"; }), HasSubstr("not within 64 MiB"));
  EXPECT_THAT(error_with([](Flags& f) { f.memory = "2T"; }), HasSubstr("not within"));
  EXPECT_THAT(error_with([](Flags& f) { f.memory = "65M"; }), HasSubstr("not a multiple of 2 MiB"));
  EXPECT_EQ(error_with([](Flags& f) { f.memory = "64M"; }), "no error");
}

TEST(VmmConfig, CpusOutsideTheirLimitsAreRefused) {
  for (const char* cpus : {"0", "65", "-1", "two", "1.5", ""}) {
    EXPECT_THAT(error_with([&](Flags& f) { f.cpus = cpus; }), HasSubstr("cpus")) << cpus;
  }
}

TEST(VmmConfig, ABalloonTargetAboveTheMemoryIsRefused) {
  EXPECT_THAT(error_with([](Flags& f) { f.balloon = "target=3G"; }),
              HasSubstr("more than the guest's memory"));
  EXPECT_THAT(error_with([](Flags& f) { f.balloon = "target=0"; }), HasSubstr("nothing"));
  EXPECT_THAT(error_with([](Flags& f) { f.balloon = "target=1M"; }), HasSubstr("less than"));
  EXPECT_THAT(error_with([](Flags& f) { f.balloon = "deflate-on-oom=yes"; }), HasSubstr("on or off"));
}

TEST(VmmConfig, MemoryIsMadeOfWhatTheFlagSays) {
  Flags flags = good();
  EXPECT_EQ(make_config(flags)->memory_backing, MemoryBacking{});
  flags.memory_backing = "huge-pages=2MiB,preallocate=on";
  EXPECT_EQ(make_config(flags)->memory_backing,
            (MemoryBacking{.huge_pages = HugePages::two_mib, .preallocate = true}));
  flags.memory_backing = "shared=on,lock=on,huge-pages=off";
  EXPECT_EQ(make_config(flags)->memory_backing,
            (MemoryBacking{.huge_pages = HugePages::off, .shared = true, .lock = true}));
  flags.memory_backing = "merge=on,reserve=on";
  EXPECT_EQ(make_config(flags)->memory_backing, (MemoryBacking{.merge = true, .reserve = true}));
}

TEST(VmmConfig, MemoryThatCannotBeMadeIsRefusedWithTheReason) {
  const auto error = [](const char* backing, const char* memory = "2G", const char* balloon = "target=1G") {
    return error_with([&](Flags& f) {
      f.memory_backing = backing;
      f.memory = memory;
      f.balloon = balloon;
    });
  };
  EXPECT_THAT(error("huge-pages=4K"), HasSubstr("use off, transparent, 2MiB or 1GiB"));
  EXPECT_THAT(error("huge-pages=1GiB", "1026M"), HasSubstr("not a multiple of its pages of 1 GiB"));
  EXPECT_THAT(error("merge=on,shared=on"), HasSubstr("merge works for private memory only"));
  EXPECT_THAT(error("merge=on,huge-pages=2MiB"), HasSubstr("not for pages of a pool"));
  EXPECT_THAT(error("merge=on,lock=on"), HasSubstr("contradict"));
  EXPECT_THAT(error("reserve=on,shared=on"), HasSubstr("preallocate as well"));
  EXPECT_THAT(error("huge-pages=2MiB", "2G", "free-page-hinting=on"), HasSubstr("free page reporting does"));
  EXPECT_THAT(error("colour=red"), HasSubstr("'colour'"));
}

TEST(VmmConfig, UnknownAndRepeatedKeysOfAFlagAreRefused) {
  EXPECT_THAT(error_with([](Flags& f) { f.disks = {"path=/x,speed=9"}; }), HasSubstr("'speed'"));
  EXPECT_THAT(error_with([](Flags& f) { f.disks = {"path=/x,path=/y"}; }), HasSubstr("twice"));
  EXPECT_THAT(error_with([](Flags& f) { f.disks = {"readonly"}; }), HasSubstr("no path="));
  EXPECT_THAT(error_with([](Flags& f) { f.disks = {""}; }), HasSubstr("--disk"));
  EXPECT_THAT(error_with([](Flags& f) { f.nets = {"mac=52:54:00:12:34:56"}; }), HasSubstr("no tap="));
  EXPECT_THAT(error_with([](Flags& f) { f.disks = {"path=/x,serial=123456789012345678901"}; }),
              HasSubstr("20 bytes"));
  EXPECT_THAT(error_with([](Flags& f) { f.nets = {"tap=a-name-of-17-char"}; }), HasSubstr("1 to 15"));
}

TEST(VmmConfig, BadMacAddressesAreRefused) {
  for (const char* mac : {"52:54:00:12:34", "52-54-00-12-34-56", "zz:54:00:12:34:56", "01:00:5e:00:00:01",
                          "00:00:00:00:00:00", "5:254:00:12:34:56", ""}) {
    EXPECT_FALSE(parse_mac(mac)) << mac;
  }
}

TEST(VmmConfig, BadSerialPortsAreRefused) {
  EXPECT_THAT(error_with([](Flags& f) { f.serial = "tty"; }), HasSubstr("--serial: 'tty' is not one of"));
  EXPECT_THAT(error_with([](Flags& f) { f.serial = "file:"; }), HasSubstr("empty"));
  EXPECT_THAT(error_with([](Flags& f) { f.serial = "unix:/" + std::string(120, 'x'); }),
              HasSubstr("107 are allowed"));
}

TEST(VmmConfig, TheVirtioInterfaceIsChosenWithOrWithoutPackedRings) {
  const auto modern = parse_virtio("modern");
  ASSERT_TRUE(modern);
  EXPECT_EQ(modern->interface, VirtioInterface::modern);
  EXPECT_FALSE(modern->packed_rings);
  const auto both = parse_virtio("transitional,packed=on");
  ASSERT_TRUE(both);
  EXPECT_EQ(both->interface, VirtioInterface::transitional);
  EXPECT_TRUE(both->packed_rings);
  const auto mmio = parse_virtio("mmio,packed=on");
  ASSERT_TRUE(mmio);
  EXPECT_EQ(mmio->interface, VirtioInterface::mmio);
  EXPECT_TRUE(mmio->packed_rings);
  EXPECT_THAT(error_with([](Flags& f) { f.virtio = "ancient"; }),
              HasSubstr("--virtio: 'ancient' is not one of"));
  EXPECT_THAT(error_with([](Flags& f) { f.virtio = "modern,packed"; }), HasSubstr("on or off"));
  EXPECT_THAT(error_with([](Flags& f) { f.virtio = "modern,ring=packed"; }), HasSubstr("'ring'"));
  EXPECT_THAT(error_with([](Flags& f) { f.virtio = "legacy,packed=on"; }), HasSubstr("no packed rings"));
  EXPECT_THAT(error_with([](Flags& f) { f.virtio = ""; }), HasSubstr("modern, transitional, legacy, mmio"));
}

TEST(VmmConfig, ALinkSocketThatIsTooLongIsRefused) {
  EXPECT_THAT(error_with([](Flags& f) { f.link = "/" + std::string(120, 'x'); }),
              HasSubstr("107 are allowed"));
  EXPECT_THAT(error_with([](Flags& f) { f.link = ""; }), HasSubstr("empty"));
}

TEST(VmmConfig, BadLabelsAreRefused) {
  EXPECT_THAT(error_with([](Flags& f) { f.labels = {"novalue"}; }), HasSubstr("key=value"));
  EXPECT_THAT(error_with([](Flags& f) { f.labels = {"=x"}; }), HasSubstr("label"));
  EXPECT_THAT(error_with([](Flags& f) { f.labels = {"a=b\nc"}; }), HasSubstr("control characters"));
}

TEST(VmmConfig, TooManyDevicesAreRefused) {
  EXPECT_THAT(error_with([](Flags& f) { f.disks.assign(31, "path=/x"); }), HasSubstr("PCI bus"));
}

constexpr std::string_view kFile = R"(name: db
memory: 4GiB
cpus: 2
kernel: /boot/vmlinuz
initrd: /boot/initrd.img
cmdline: console=ttyS0
disks:
  - path: /srv/root.img
    serial: root
  - {path: /srv/data.img, readonly: true}
nets:
  - {tap: tap0, mac: "52:54:00:12:34:56"}
serial: none
balloon: {target: 1GiB, deflate_on_oom: false, free_page_reporting: true}
link: /run/balloond/guest.sock
labels: {role: db}
log_level: debug
reboot: false
)";

TEST(VmmConfigFile, EverySettingIsRead) {
  VmmConfig config;
  const auto done = read_config(kFile, "guest.yaml", config);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(config.name, "db");
  EXPECT_EQ(config.memory, 4 * kGiB);
  EXPECT_EQ(config.cpus, 2U);
  EXPECT_EQ(config.disks.size(), 2U);
  EXPECT_TRUE(config.disks.at(1).read_only);
  EXPECT_TRUE(config.nets.at(0).mac);
  EXPECT_EQ(config.serial.kind, SerialConfig::Kind::none);
  EXPECT_FALSE(config.balloon.deflate_on_oom);
  EXPECT_EQ(config.labels.at("role"), "db");
  EXPECT_FALSE(config.reboot);
  EXPECT_TRUE(check_config(config));
}

TEST(VmmConfigFile, ComplaintsNameLineAndKey) {
  VmmConfig config;
  const auto done = read_config("name: a\nmemroy: 2GiB\n", "guest.yaml", config);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("guest.yaml:2"));
  EXPECT_THAT(done.error().message, HasSubstr("memroy"));
}

TEST(VmmConfigFile, BadValuesAreComplainedAboutAtTheirPlace) {
  VmmConfig config;
  const auto done = read_config("serial: modem\nnets:\n  - {tap: t, mac: xx}\ndisks:\n  - {readonly: true}\n",
                                "g.yaml", config);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("g.yaml:1"));
  EXPECT_THAT(done.error().message, HasSubstr("MAC address"));
  EXPECT_THAT(done.error().message, HasSubstr("path"));
}

TEST(VmmConfigFile, FlagsWinOverTheFile) {
  const auto path =
      std::filesystem::temp_directory_path() / ("guest-" + std::to_string(::getpid()) + ".yaml");
  std::ofstream(path) << kFile;
  Flags flags;
  flags.config = path;
  flags.memory = "1G";
  flags.disks = {"path=/other.img"};
  flags.labels = {"tier=gold"};
  const auto config = make_config(flags);
  std::filesystem::remove(path);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->name, "db");
  EXPECT_EQ(config->memory, 1 * kGiB);
  EXPECT_EQ(config->disks.size(), 1U);
  EXPECT_EQ(config->labels.size(), 2U);
}

TEST(VmmConfigFile, AMissingFileIsNamed) {
  Flags flags;
  flags.config = "/no/such/guest.yaml";
  EXPECT_THAT(error_of(flags), HasSubstr("/no/such/guest.yaml"));
}

}  // namespace
}  // namespace balloon::vmm::test

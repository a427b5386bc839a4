// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/machine/config.h"

namespace balloon::vmm::test {
namespace {

using testing::HasSubstr;

std::string refused(std::string_view text) {
  const auto disk = parse_disk(text);
  if (!disk) return disk.error().message;
  const auto checked = check_disk(*disk);
  return checked ? "no error" : checked.error().message;
}

TEST(DiskConfig, EverySettingIsReadFromAFlag) {
  const auto disk = parse_disk(
      "path=/"
      "x.img,readonly,serial=s,format=qcow2,backing=any,cache=none,engine=threads,lock=warn,werror=enospc,"
      "rerror=stop,queues=4,block-"
      "size=4096,"
      "discard=off,"
      "rate-bytes=1MiB,rate-bytes-burst=2MiB,rate-requests=100,rate-requests-burst=200");
  ASSERT_TRUE(disk) << disk.error().message;
  EXPECT_EQ(disk->path, "/x.img");
  EXPECT_TRUE(disk->read_only);
  EXPECT_EQ(disk->serial, "s");
  EXPECT_EQ(disk->format, BlockFormat::qcow2);
  EXPECT_EQ(disk->backing, BackingFiles::any);
  EXPECT_EQ(disk->cache, BlockCache::none);
  EXPECT_EQ(disk->write_errors, ErrorPolicy::enospc);
  EXPECT_EQ(disk->read_errors, ErrorPolicy::stop);
  EXPECT_EQ(disk->engine, BlockEngine::threads);
  EXPECT_EQ(disk->lock, BlockLock::warn);
  EXPECT_EQ(disk->queues, 4U);
  EXPECT_EQ(disk->block_size, 4096U);
  EXPECT_FALSE(disk->discard);
  EXPECT_EQ(disk->bytes_per_second, kMiB);
  EXPECT_EQ(disk->burst_bytes, 2 * kMiB);
  EXPECT_EQ(disk->requests_per_second, 100U);
  EXPECT_EQ(disk->burst_requests, 200U);
}

TEST(DiskConfig, EverySettingIsReadFromAFile) {
  VmmConfig config;
  const auto done = read_config(
      "disks:\n"
      "  - path: /x.img\n    format: raw\n    backing: \"off\"\n    cache: writethrough\n    werror: stop\n  "
      "  rerror: ignore\n    engine: "
      "io_uring\n    queues: 2\n"
      "    block_size: 1024\n    discard: false\n"
      "    rate: {bytes: 1MiB, bytes_burst: 2MiB, requests: 100, requests_burst: 200}\n",
      "guest.yaml", config);
  ASSERT_TRUE(done) << done.error().message;
  const BlockConfig& disk = config.disks.at(0);
  EXPECT_EQ(disk.format, BlockFormat::raw);
  EXPECT_EQ(disk.backing, BackingFiles::off);
  EXPECT_EQ(disk.cache, BlockCache::writethrough);
  EXPECT_EQ(disk.engine, BlockEngine::io_uring);
  EXPECT_EQ(disk.write_errors, ErrorPolicy::stop);
  EXPECT_EQ(disk.read_errors, ErrorPolicy::ignore);
  EXPECT_EQ(disk.queues, 2U);
  EXPECT_EQ(disk.block_size, 1024U);
  EXPECT_FALSE(disk.discard);
  EXPECT_EQ(disk.burst_requests, 200U);
}

TEST(DiskConfig, TwoCommasAreOneInAValue) {
  const auto disk = parse_disk("path=/a,,b.img,,,serial=x");
  ASSERT_TRUE(disk) << disk.error().message;
  EXPECT_EQ(disk->path, "/a,b.img,");
  EXPECT_EQ(disk->serial, "x");
  EXPECT_THAT(refused("path=/x,"), HasSubstr("'' in 'path=/x,' is unknown"));
}

TEST(DiskConfig, BadValuesAreRefusedWithWhatIsPossible) {
  EXPECT_EQ(refused("path=/x"), "no error");
  EXPECT_THAT(refused("path=/x,format=vmdk"), HasSubstr("use raw or qcow2"));
  EXPECT_THAT(refused("path=/x,backing=yes"), HasSubstr("use off, same-directory or any"));
  EXPECT_THAT(refused("path=/x,cache=unsafe"), HasSubstr("use writeback, writethrough or none"));
  EXPECT_THAT(refused("path=/x,engine=aio"), HasSubstr("use auto, io_uring or threads"));
  EXPECT_THAT(refused("path=/x,werror=panic"), HasSubstr("use report, ignore, stop or enospc"));
  EXPECT_THAT(refused("path=/x,rerror=enospc"), HasSubstr("use report, ignore or stop"));
  EXPECT_THAT(refused("path=/x,lock=maybe"), HasSubstr("use on, warn or off"));
  EXPECT_THAT(refused("path=/x,queues=0"), HasSubstr("1 to 64"));
  EXPECT_THAT(refused("path=/x,queues=65"), HasSubstr("1 to 64"));
  EXPECT_THAT(refused("path=/x,block-size=1000"), HasSubstr("power of two within 512 to 4096"));
  EXPECT_THAT(refused("path=/x,block-size=8192"), HasSubstr("power of two within 512 to 4096"));
  EXPECT_THAT(refused("path=/x,rate-bytes-burst=1MiB"), HasSubstr("a burst needs a rate"));
  VmmConfig config;
  const auto done = read_config("disks:\n  - path: /x\n    cache: fast\n", "guest.yaml", config);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("guest.yaml:3"));
}

}  // namespace
}  // namespace balloon::vmm::test

// SPDX-License-Identifier: Apache-2.0
// Headers and entries as strangers may have made them.
#include "vmm/devices/block/qcow2_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "tests/fuzz/qcow2_fuzz.h"
#include "tests/unit/vmm/address_literals.h"

namespace balloon::vmm {
namespace {

using ::testing::HasSubstr;

/// A good header of version 3: 1 GiB in clusters of 64 KiB.
std::vector<std::byte> good_header() {
  std::vector<std::byte> bytes(65536);
  store_be32(bytes.data(), 0x514649fb);
  store_be32(bytes.data() + 4, 3);
  store_be32(bytes.data() + 20, 16);
  store_be64(bytes.data() + 24, 1_GiB);
  store_be32(bytes.data() + 36, 2);
  store_be64(bytes.data() + 40, 0x30000);
  store_be64(bytes.data() + 48, 0x10000);
  store_be32(bytes.data() + 56, 1);
  store_be32(bytes.data() + 96, 4);
  store_be32(bytes.data() + 100, 104);
  return bytes;
}

/// Why the header is refused after this change; empty when it is not.
std::string refused(const std::function<void(std::byte*)>& change) {
  auto bytes = good_header();
  change(bytes.data());
  const auto header = parse_qcow2_header(bytes);
  return header ? "" : header.error().message;
}

void add_extension(std::byte* bytes, std::size_t at, std::uint32_t type, std::string_view data) {
  store_be32(bytes + at, type);
  store_be32(bytes + at + 4, static_cast<std::uint32_t>(data.size()));
  std::memcpy(bytes + at + 8, data.data(), data.size());
}

TEST(Qcow2Header, OfBothVersionsIsRead) {
  auto bytes = good_header();
  auto header = parse_qcow2_header(bytes);
  ASSERT_TRUE(header) << header.error().message;
  EXPECT_EQ(header->size, 1_GiB);
  EXPECT_EQ(header->cluster_size(), 65536U);
  EXPECT_EQ(header->l2_entries(), 8192U);
  EXPECT_EQ(header->refcounts_per_block(), 32768U);
  EXPECT_EQ(header->backing_file, "");
  store_be32(bytes.data() + 4, 2);
  store_be64(bytes.data() + 72, ~0ULL);  // not a header's field yet, but a header extension's
  store_be64(bytes.data() + 72, 0);
  header = parse_qcow2_header(bytes);
  ASSERT_TRUE(header) << header.error().message;
  EXPECT_EQ(header->refcount_order, 4U);
}

TEST(Qcow2Header, EachFieldIsReadFromItsPlace) {
  auto bytes = good_header();
  store_be32(bytes.data() + 20, 12);
  store_be64(bytes.data() + 24, 1_MiB + 512);
  store_be32(bytes.data() + 36, 5);
  store_be64(bytes.data() + 40, 0x23000);
  store_be64(bytes.data() + 48, 0x45000);
  store_be32(bytes.data() + 56, 3);
  store_be32(bytes.data() + 60, 7);
  store_be64(bytes.data() + 64, 0x67000);
  store_be64(bytes.data() + 88, 0x89);
  store_be32(bytes.data() + 96, 6);
  const auto header = parse_qcow2_header(bytes);
  ASSERT_TRUE(header) << header.error().message;
  EXPECT_EQ(header->version, 3U);
  EXPECT_EQ(header->cluster_bits, 12U);
  EXPECT_EQ(header->cluster_size(), 4096U);
  EXPECT_EQ(header->size, 1_MiB + 512);
  EXPECT_EQ(header->l1_entries, 5U);
  EXPECT_EQ(header->l1_offset, 0x23000U);
  EXPECT_EQ(header->l2_entries(), 512U);
  EXPECT_EQ(header->refcount_table_offset, 0x45000U);
  EXPECT_EQ(header->refcount_table_clusters, 3U);
  EXPECT_EQ(header->refcounts_per_block(), 512U) << "of 64 bits";
  EXPECT_EQ(header->snapshots, 7U);
  EXPECT_EQ(header->snapshots_offset, 0x67000U);
  EXPECT_EQ(header->autoclear_features, 0x89U);
  EXPECT_EQ(header->refcount_order, 6U);
  EXPECT_FALSE(header->dirty);
  EXPECT_FALSE(header->corrupt);
}

TEST(Qcow2Header, WhatIsJustPossibleIsTakenAndNothingMore) {
  const auto with = [](std::size_t place, std::uint32_t value) {
    return refused([=](std::byte* h) { store_be32(h + place, value); });
  };
  EXPECT_EQ(with(36, 32_MiB / 8), "") << "an L1 table of 32 MiB";
  EXPECT_THAT(with(36, 32_MiB / 8 + 1), HasSubstr("too long"));
  EXPECT_EQ(with(56, 8_MiB / 65536), "") << "a refcount table of 8 MiB";
  EXPECT_THAT(with(56, 8_MiB / 65536 + 1), HasSubstr("its refcount table has 129 clusters"));
  EXPECT_THAT(with(20, 22), HasSubstr("2^22"));
  EXPECT_EQ(with(96, 6), "");
  EXPECT_EQ(with(100, 112), "");
  EXPECT_THAT(with(100, 96), HasSubstr("claims 96 bytes")) << "less than its fields";
  EXPECT_THAT(with(100, 108), HasSubstr("claims 108 bytes")) << "no multiple of 8";
  EXPECT_THAT(with(100, 65544), HasSubstr("claims 65544 bytes")) << "more than there are";
  EXPECT_THAT(with(32, 3), HasSubstr("by an unknown method"));
  const auto smallest = refused([](std::byte* h) {
    store_be32(h + 20, 9);
    store_be64(h + 24, 512);
  });
  EXPECT_EQ(smallest, "") << "clusters of 512 bytes";
  const auto named = [](std::uint32_t length) {
    return refused([=](std::byte* h) {
      store_be64(h + 8, 0x200);
      store_be32(h + 16, length);
      std::memset(h + 0x200, 'x', length);
    });
  };
  EXPECT_EQ(named(1023), "");
  EXPECT_THAT(named(1024), HasSubstr("backing file"));
}

TEST(Qcow2Header, NoExtensionIsReadWhereThereIsNoRoomForOne) {
  auto bytes = good_header();
  store_be32(bytes.data() + 104, 0xe2792aca);  // a backing file's format, as long as its name says
  store_be64(bytes.data() + 8, 108);
  store_be32(bytes.data() + 16, 4);
  std::memcpy(bytes.data() + 108, "base", 4);
  const auto header = parse_qcow2_header(bytes);
  ASSERT_TRUE(header) << header.error().message;
  EXPECT_EQ(header->backing_file, "base");
  EXPECT_EQ(header->backing_format, "");
}

TEST(Qcow2Header, NamesItsBackingFileAndThatOnesFormat) {
  auto bytes = good_header();
  const std::string name = "../base images/base.img";
  add_extension(bytes.data(), 104, 0xe2792aca, "raw");
  store_be64(bytes.data() + 8, 0x200);
  store_be32(bytes.data() + 16, static_cast<std::uint32_t>(name.size()));
  std::memcpy(bytes.data() + 0x200, name.data(), name.size());
  const auto header = parse_qcow2_header(bytes);
  ASSERT_TRUE(header) << header.error().message;
  EXPECT_EQ(header->backing_file, name);
  EXPECT_EQ(header->backing_format, "raw");
}

TEST(Qcow2Header, DirtyAndCorruptAreTold) {
  auto bytes = good_header();
  store_be64(bytes.data() + 72, 3);
  const auto header = parse_qcow2_header(bytes);
  ASSERT_TRUE(header);
  EXPECT_TRUE(header->dirty);
  EXPECT_TRUE(header->corrupt);
  for (const bool dirty : {true, false}) {
    store_be64(bytes.data() + 72, dirty ? 1 : 2);
    EXPECT_EQ(parse_qcow2_header(bytes)->dirty, dirty);
    EXPECT_EQ(parse_qcow2_header(bytes)->corrupt, !dirty);
  }
}

TEST(Qcow2Header, UnknownIncompatibleFeaturesAreRefusedByName) {
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 72, 1ULL << 2); }), HasSubstr("external data file"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 72, 1ULL << 4); }), HasSubstr("extended L2 entries"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 72, 1ULL << 40); }), HasSubstr("bit 40"));
  // As the image itself calls them.
  EXPECT_THAT(refused([](std::byte* h) {
                std::string names(96, '\0');
                names[1] = 41;
                std::memcpy(names.data() + 2, "~ travel\x7f\x1b[2J", 13);
                names[48] = 1;  // a compatible feature of the same number
                names[49] = 41;
                add_extension(h, 104, 0x6803f857, names);
                store_be64(h + 72, 1ULL << 41);
              }),
              HasSubstr("~ travel??[2J"));
}

TEST(Qcow2Header, OtherCompressionThanZlibIsRefused) {
  const auto with_type = [](std::uint8_t type) {
    return refused([type](std::byte* h) {
      store_be64(h + 72, 1ULL << 3);
      store_be32(h + 100, 112);
      h[104] = std::byte{type};
    });
  };
  EXPECT_EQ(with_type(0), "");
  EXPECT_THAT(with_type(1), HasSubstr("compression type"));
}

TEST(Qcow2Header, EncryptionIsRefused) {
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 32, 1); }), HasSubstr("encrypted (AES)"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 32, 2); }), HasSubstr("encrypted (LUKS)"));
}

TEST(Qcow2Header, ImpossibleSizesAreRefused) {
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h, 0x514649fc); }), HasSubstr("not a qcow2 image"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 4, 4); }), HasSubstr("version 4"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 20, 8); }), HasSubstr("2^8"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 20, 0xffffffff); }), HasSubstr("2^4294967295"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 24, 0); }), HasSubstr("size of 0"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 24, 513); }), HasSubstr("size of 513"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 24, ~511ULL); }), HasSubstr("too short"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 36, 0xffffffff); }), HasSubstr("too long"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 36, 1); }), HasSubstr("too short"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 40, 0x30200); }), HasSubstr("L1 table at"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 40, 0); }), HasSubstr("L1 table at"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 40, 1ULL << 60); }), HasSubstr("L1 table at"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 48, 1); }), HasSubstr("refcount table at"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 56, 0); }), HasSubstr("0 clusters"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 56, 0xffffffff); }),
              HasSubstr("4294967295 clusters"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 96, 7); }), HasSubstr("2^7 bits"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 100, 64); }), HasSubstr("claims 64 bytes"));
  EXPECT_THAT(refused([](std::byte* h) { store_be32(h + 100, 1 << 30); }), HasSubstr("claims"));
  EXPECT_THAT(
      refused([](std::byte* h) { add_extension(h, 104, 0x12345678, "x"), store_be32(h + 108, 1 << 30); }),
      HasSubstr("too long"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 8, ~0ULL), store_be32(h + 16, 10); }),
              HasSubstr("backing file"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 8, 65530), store_be32(h + 16, 10); }),
              HasSubstr("backing file"));
  EXPECT_THAT(refused([](std::byte* h) { store_be64(h + 8, 512), store_be32(h + 16, 10); }),
              HasSubstr("zero byte"));
}

TEST(Qcow2Header, CutOffAnywhereItIsRefusedAndNotReadBeyond) {
  const auto bytes = good_header();
  for (std::size_t size = 0; size < 104; ++size) {
    // A copy of just that size, so that the address sanitizer sees a read behind it.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(parse_qcow2_header(cut)) << size;
  }
}

TEST(Qcow2Entry, EveryKindIsTold) {
  const Qcow2Header header;
  using Kind = Qcow2Cluster::Kind;
  EXPECT_EQ(parse_l2_entry(0, header)->kind, Kind::unallocated);
  EXPECT_EQ(parse_l2_entry(1, header)->kind, Kind::zero);
  const auto kept = parse_l2_entry(qcow2::kCopied | 0x50000 | 1, header);
  EXPECT_EQ(kept->kind, Kind::zero);
  EXPECT_EQ(kept->offset, 0x50000U);
  EXPECT_TRUE(parse_l2_entry(qcow2::kCopied | 0x50000, header)->in_place());
  EXPECT_FALSE(parse_l2_entry(0x50000, header)->in_place()) << "shared with a snapshot";
  // Clusters of 64 KiB: 54 bits of offset, then 8 of sectors.
  const auto packed = parse_l2_entry(qcow2::kCompressed | 3ULL << 54 | 0x50323, header);
  EXPECT_EQ(packed->kind, Kind::compressed);
  EXPECT_EQ(packed->offset, 0x50323U);
  EXPECT_EQ(packed->compressed_size, 4 * 512 - 0x123);
}

TEST(Qcow2Entry, ThatCannotBeIsRefused) {
  Qcow2Header header;
  EXPECT_FALSE(parse_l2_entry(0x50200, header)) << "not at a cluster's start";
  EXPECT_FALSE(parse_l2_entry(qcow2::kCompressed | 0x100, header)) << "compressed data in the header";
  EXPECT_FALSE(parse_l2_entry(qcow2::kCompressed | qcow2::kCopied | 0x50000, header));
  header.version = 2;
  EXPECT_EQ(parse_l2_entry(1, header)->kind, Qcow2Cluster::Kind::unallocated)
      << "version 2 has no zero clusters";
}

// What tests/fuzz/qcow2_fuzz.cc does with libFuzzer's inputs, done with some of our own.
TEST(Qcow2Fuzz, RandomChangesOfAHeaderAreRefusedOrHarmless) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 300; ++i) {
    auto bytes = good_header();
    bytes.resize(4096 + random() % 4096);
    const auto changes = 1 + random() % 6;
    for (std::uint64_t change = 0; change < changes; ++change) {
      bytes[random() % (i % 2 == 0 ? 112 : bytes.size())] = static_cast<std::byte>(random());
    }
    fuzz_qcow2(bytes);
  }
}

}  // namespace
}  // namespace balloon::vmm

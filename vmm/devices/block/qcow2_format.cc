// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/qcow2_format.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <vector>

namespace balloon::vmm {
using namespace qcow2;  // NOLINT: the constants of this very file's header
namespace {

constexpr std::uint32_t kMagic = 0x514649fb;  // "QFI\xfb"
constexpr std::size_t kHeaderSizeV2 = 72;
constexpr std::size_t kMaxBackingName = 1023;
constexpr std::uint32_t kMaxRefcountOrder = 6;

constexpr std::uint64_t kIncompatibleDirty = 1ULL << 0;
constexpr std::uint64_t kIncompatibleCorrupt = 1ULL << 1;
constexpr std::uint64_t kIncompatibleCompressionType = 1ULL << 3;
constexpr std::size_t kCompressionTypePlace = 104;

constexpr std::uint32_t kExtensionEnd = 0;
constexpr std::uint32_t kExtensionBackingFormat = 0xe2792aca;
constexpr std::uint32_t kExtensionFeatureNames = 0x6803f857;
constexpr std::size_t kFeatureNameSize = 48;  // type, bit, 46 characters

/// Names of incompatible features that an image need not name itself.
struct KnownFeature {
  std::uint32_t bit;
  const char* name;
};
constexpr KnownFeature kKnownFeatures[] = {
    {2, "external data file"}, {3, "compression type"}, {4, "extended L2 entries"}};

struct Extensions {
  std::string backing_format{};
  std::vector<std::pair<std::uint32_t, std::string>> incompatible_names{};
};

std::string text_of(std::span<const std::byte> bytes) {
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return text.substr(0, text.find('\0'));
}

/// What a stranger's image says, for a person's terminal.
std::string printable(std::string text) {
  for (char& c : text) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return text;
}

Result<Extensions> parse_extensions(std::span<const std::byte> start, std::size_t at, std::size_t end) {
  Extensions found;
  end = std::min(end, start.size());
  while (at + 8 <= end) {
    const std::uint32_t type = load_be32(start.data() + at);
    const std::uint32_t size = load_be32(start.data() + at + 4);
    at += 8;
    if (type == kExtensionEnd) break;
    if (size > end - at) return fail(fmt::format("header extension {:#x} of {} bytes: too long", type, size));
    const auto data = start.subspan(at, size);
    if (type == kExtensionBackingFormat) found.backing_format = printable(text_of(data));
    if (type == kExtensionFeatureNames) {
      for (std::size_t i = 0; i + kFeatureNameSize <= data.size(); i += kFeatureNameSize) {
        if (data[i] != std::byte{0}) continue;  // of incompatible features only
        found.incompatible_names.emplace_back(std::to_integer<std::uint32_t>(data[i + 1]),
                                              printable(text_of(data.subspan(i + 2, kFeatureNameSize - 2))));
      }
    }
    at += (std::size_t{size} + 7) / 8 * 8;
  }
  return found;
}

std::string feature_names(std::uint64_t features, const Extensions& extensions) {
  std::string names;
  for (std::uint32_t bit = 0; bit < 64; ++bit) {
    if ((features >> bit & 1) == 0) continue;
    std::string name = fmt::format("bit {}", bit);
    for (const auto& [named, text] : extensions.incompatible_names) {
      if (named == bit) name = text;
    }
    for (const KnownFeature& known : kKnownFeatures) {
      if (known.bit == bit) name = known.name;
    }
    names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

Result<void> check_features(std::uint64_t incompatible, std::span<const std::byte> start,
                            std::uint32_t length, const Extensions& extensions) {
  std::uint64_t unknown = incompatible & ~(kIncompatibleDirty | kIncompatibleCorrupt);
  if ((unknown & kIncompatibleCompressionType) != 0 && length > kCompressionTypePlace &&
      start[kCompressionTypePlace] == std::byte{0}) {
    unknown &= ~kIncompatibleCompressionType;  // zlib after all
  }
  if (unknown == 0) return {};
  return fail(fmt::format(
      "it has features that this VMM does not know: {}; convert it with qemu-img convert -O qcow2",
      feature_names(unknown, extensions)));
}

Result<void> check_tables(const Qcow2Header& header) {
  const auto aligned = [&](std::uint64_t offset) {
    return offset % header.cluster_size() == 0 && offset <= kOffsetMask;
  };
  const std::uint64_t covered = header.cluster_size() * header.l2_entries();
  const std::uint64_t needed = header.size / covered + (header.size % covered != 0 ? 1 : 0);
  if (header.l1_entries * sizeof(std::uint64_t) > kMaxL1Size) {
    return fail(fmt::format("its L1 table of {} entries is too long", header.l1_entries));
  }
  if (needed > header.l1_entries) {
    return fail(
        fmt::format("its L1 table of {} entries is too short for {} bytes", header.l1_entries, header.size));
  }
  if (header.l1_entries > 0 && (header.l1_offset == 0 || !aligned(header.l1_offset))) {
    return fail(fmt::format("its L1 table at {:#x} is not at a cluster's start", header.l1_offset));
  }
  if (header.refcount_table_offset == 0 || !aligned(header.refcount_table_offset)) {
    return fail(
        fmt::format("its refcount table at {:#x} is not at a cluster's start", header.refcount_table_offset));
  }
  const std::uint64_t table = header.refcount_table_clusters * header.cluster_size();
  if (table == 0 || table > kMaxRefcountTable) {
    return fail(fmt::format("its refcount table has {} clusters", header.refcount_table_clusters));
  }
  return {};
}

Result<void> read_backing_name(std::span<const std::byte> start, Qcow2Header& header) {
  const std::uint64_t offset = load_be64(start.data() + 8);
  const std::uint32_t size = load_be32(start.data() + 16);
  if (offset == 0 || size == 0) return {};
  if (size > kMaxBackingName || offset > start.size() || size > start.size() - offset) {
    return fail("the name of its backing file is not within its first cluster");
  }
  header.backing_file = std::string(reinterpret_cast<const char*>(start.data()) + offset, size);
  if (header.backing_file.find('\0') != std::string::npos)
    return fail("the name of its backing file has a zero byte");
  return {};
}

}  // namespace

std::uint64_t load_be64(const std::byte* from) {
  std::uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return __builtin_bswap64(value);
}
std::uint32_t load_be32(const std::byte* from) {
  std::uint32_t value;
  std::memcpy(&value, from, sizeof value);
  return __builtin_bswap32(value);
}
void store_be64(std::byte* to, std::uint64_t value) {
  value = __builtin_bswap64(value);
  std::memcpy(to, &value, sizeof value);
}
void store_be32(std::byte* to, std::uint32_t value) {
  value = __builtin_bswap32(value);
  std::memcpy(to, &value, sizeof value);
}

bool looks_like_qcow2(std::span<const std::byte> start) {
  return start.size() >= sizeof(std::uint32_t) && load_be32(start.data()) == kMagic;
}

Result<std::uint32_t> parse_qcow2_cluster_bits(std::span<const std::byte> start) {
  if (!looks_like_qcow2(start) || start.size() < kHeaderSizeV2) return fail("it is not a qcow2 image");
  const std::uint32_t bits = load_be32(start.data() + 20);
  if (bits < kMinClusterBits || bits > kMaxClusterBits) {
    return fail(fmt::format("its clusters of 2^{} bytes are not within 512 bytes to 2 MiB", bits));
  }
  return bits;
}

Result<Qcow2Header> parse_qcow2_header(std::span<const std::byte> start) {
  const auto bits = parse_qcow2_cluster_bits(start);
  if (!bits) return std::unexpected(bits.error());
  Qcow2Header header;
  header.cluster_bits = *bits;
  header.version = load_be32(start.data() + 4);
  if (header.version != 2 && header.version != 3) {
    return fail(fmt::format("its qcow2 version {} is neither 2 nor 3", header.version));
  }
  header.size = load_be64(start.data() + 24);
  header.l1_entries = load_be32(start.data() + 36);
  header.l1_offset = load_be64(start.data() + 40);
  header.refcount_table_offset = load_be64(start.data() + kRefcountTablePlace);
  header.refcount_table_clusters = load_be32(start.data() + kRefcountTablePlace + 8);
  header.snapshots = load_be32(start.data() + 60);
  header.snapshots_offset = load_be64(start.data() + 64);
  if (const std::uint32_t method = load_be32(start.data() + 32); method != 0) {
    return fail(fmt::format("it is encrypted ({}), which this VMM does not do; convert it with qemu-img",
                            method == 1   ? "AES"
                            : method == 2 ? "LUKS"
                                          : "by an unknown method"));
  }

  std::uint64_t incompatible = 0;
  std::uint32_t length = kHeaderSizeV2;
  if (header.version == 3) {
    if (start.size() < kHeaderSize) return fail("its header is cut off");
    incompatible = load_be64(start.data() + 72);
    header.autoclear_features = load_be64(start.data() + kAutoclearPlace);
    header.refcount_order = load_be32(start.data() + 96);
    length = load_be32(start.data() + 100);
    if (length < kHeaderSize || length % 8 != 0 || length > start.size()) {
      return fail(fmt::format("its header claims {} bytes", length));
    }
    if (header.refcount_order > kMaxRefcountOrder) {
      return fail(fmt::format("its reference counts of 2^{} bits are wider than 64", header.refcount_order));
    }
  }
  header.dirty = (incompatible & kIncompatibleDirty) != 0;
  header.corrupt = (incompatible & kIncompatibleCorrupt) != 0;
  BALLOON_TRY(read_backing_name(start, header));
  const std::uint64_t backing = load_be64(start.data() + 8);
  const auto extensions = parse_extensions(
      start, length, header.backing_file.empty() ? start.size() : static_cast<std::size_t>(backing));
  if (!extensions) return std::unexpected(extensions.error());
  header.backing_format = extensions->backing_format;
  BALLOON_TRY(check_features(incompatible, start, length, *extensions));
  if (header.size == 0 || header.size % 512 != 0) {
    return fail(fmt::format("its size of {} bytes is no disk's", header.size));
  }
  BALLOON_TRY(check_tables(header));
  return header;
}

Result<Qcow2Cluster> parse_l2_entry(std::uint64_t entry, const Qcow2Header& header) {
  Qcow2Cluster cluster{.copied = (entry & kCopied) != 0};
  if ((entry & kCompressed) != 0) {
    // Below the offset: how many 512-byte sectors follow the one in which the data starts.
    const std::uint32_t offset_bits = 62 - (header.cluster_bits - 8);
    const std::uint64_t sectors = (entry & ~(kCopied | kCompressed)) >> offset_bits;
    cluster.kind = Qcow2Cluster::Kind::compressed;
    cluster.offset = entry & ((1ULL << offset_bits) - 1);
    cluster.compressed_size = (sectors + 1) * 512 - cluster.offset % 512;
    if (cluster.offset < header.cluster_size() || cluster.copied) {
      return fail(fmt::format("the image is damaged: its L2 entry {:#x} cannot be", entry));
    }
    return cluster;
  }
  cluster.offset = entry & kOffsetMask;
  const bool zero = header.version >= 3 && (entry & kZero) != 0;
  if (zero) {
    cluster.kind = Qcow2Cluster::Kind::zero;
  } else if (cluster.offset != 0) {
    cluster.kind = Qcow2Cluster::Kind::data;
  }
  if (cluster.offset % header.cluster_size() != 0) {
    return fail(fmt::format("the image is damaged: its L2 entry {:#x} is not at a cluster's start", entry));
  }
  return cluster;
}

}  // namespace balloon::vmm

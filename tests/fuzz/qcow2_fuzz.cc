// qcow2 images that somebody else made (qcow2_fuzz.h).
#include "tests/fuzz/qcow2_fuzz.h"

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "tests/fuzz/fuzz.h"

namespace balloon::vmm::fuzz {
namespace {

void put(Bytes8& image, std::size_t at, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    image[at + i] = static_cast<std::uint8_t>(value >> 8 * (size - 1 - i));
}

/// The smallest image that is whole: clusters of 512 bytes, 64 KiB of disk, nothing allocated.
Bytes8 empty_image(std::uint32_t version) {
  constexpr std::uint64_t kCluster = 512;
  Bytes8 image(4 * kCluster);
  put(image, 0, 0x514649fb, 4);
  put(image, 4, version, 4);
  put(image, 20, 9, 4);             // cluster bits
  put(image, 24, 64 * kKiB, 8);     // size
  put(image, 36, 2, 4);             // L1 entries
  put(image, 40, 3 * kCluster, 8);  // L1 table
  put(image, 48, kCluster, 8);      // refcount table
  put(image, 56, 1, 4);             // its clusters
  put(image, 96, 4, 4);             // refcount order
  put(image, 100, 104, 4);          // header length
  put(image, kCluster, 2 * kCluster, 8);
  for (std::size_t cluster = 0; cluster < 4; ++cluster) put(image, 2 * kCluster + 2 * cluster, 1, 2);
  return image;
}

}  // namespace

std::vector<Bytes8> seeds() { return {empty_image(3), empty_image(2)}; }

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const balloon::vmm::fuzz::Limits limits;
  balloon::vmm::fuzz_qcow2(std::as_bytes(std::span(data, size)));
  return 0;
}

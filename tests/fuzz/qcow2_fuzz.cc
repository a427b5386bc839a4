// SPDX-License-Identifier: Apache-2.0
// qcow2 images that somebody else made (qcow2_fuzz.h).
#include "tests/fuzz/qcow2_fuzz.h"

#include "tests/fuzz/qcow2_images.h"

namespace balloon::vmm::fuzz {

/// The smallest images that are whole: 64 KiB of disk, nothing allocated. One in clusters of 64 KiB. And one
/// that never has room.
std::vector<Bytes8> seeds() {
  return {empty_image(3, (64 * kKiB).count(), 4).bytes, empty_image(2, (64 * kKiB).count(), 4).bytes,
          large_clusters_image(), aliased_image()};
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const balloon::vmm::fuzz::Limits limits;
  balloon::vmm::fuzz_qcow2(std::as_bytes(std::span(data, size)));
  return 0;
}

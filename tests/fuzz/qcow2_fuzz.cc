// libFuzzer's entry: qcow2 images. Built with clang and -DBALLOON_FUZZ=ON.
#include "tests/fuzz/qcow2_fuzz.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  balloon::vmm::fuzz_qcow2(std::as_bytes(std::span(data, size)));
  return 0;
}

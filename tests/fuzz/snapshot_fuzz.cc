// SPDX-License-Identifier: Apache-2.0
// A snapshot's file that somebody else made. Its checksums would stop every mutation at the door, so the
// input is also put into a file whose checksums are right: the state as a whole.
#include <sys/mman.h>

#include <filesystem>

#include "base/unique_fd.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/snapshot/snapshot_file.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm::fuzz {
namespace {

void load(const std::string& path) {
  const GuestMemory memory = *GuestMemory::create(2 * kMiB);
  auto file = SnapshotFile::open(path);
  if (!file) return require(!file.error().message.empty(), "no reason is given");
  (void)file->load_memory(memory);
  // Lists, texts and sections of lengths that the file chose.
  StateReader reader(file->state());
  for (int i = 0; i < 64 && reader.check() && !reader.at_end(); ++i) {
    switch (i % 4) {
      case 0:
        (void)reader.text();
        break;
      case 1:
        (void)reader.list<std::uint64_t>();
        break;
      case 2:
        (void)reader.get<std::uint32_t>();
        break;
      default:
        (void)reader.section("machine");
    }
  }
}

void run(std::span<const std::uint8_t> bytes) {
  const UniqueFd file(::memfd_create("snapshot", MFD_CLOEXEC));
  require(file && ::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
          "writing");
  load("/proc/self/fd/" + std::to_string(file.get()));

  static const std::string path =
      std::filesystem::temp_directory_path() / ("fuzz-snapshot-" + std::to_string(::getpid()));
  static const GuestMemory memory = *GuestMemory::create(2 * kMiB);
  const auto state = std::as_bytes(bytes);
  if (!write_snapshot(path, {state.begin(), state.end()}, memory)) return;
  load(path);
  std::filesystem::remove(path);
}

}  // namespace

std::vector<Bytes8> seeds() {
  const std::string path =
      std::filesystem::temp_directory_path() / ("fuzz-seed-" + std::to_string(::getpid()));
  const GuestMemory memory = *GuestMemory::create(2 * kMiB);
  memory.write<std::uint64_t>(4096, 42);
  StateWriter state;
  state.section("machine");
  state.put(memory.size());
  state.list(std::vector<std::uint64_t>{1, 2, 3});
  require(write_snapshot(path, state.bytes(), memory).has_value(), "writing a seed");
  std::ifstream file(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  std::filesystem::remove(path);
  const auto* const data = reinterpret_cast<const std::uint8_t*>(state.bytes().data());
  return {Bytes8(text.begin(), text.end()), Bytes8(data, data + state.bytes().size())};
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace balloon::vmm::fuzz;
  const Limits limits;
  run(std::span(data, size));
  return 0;
}

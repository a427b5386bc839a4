// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target without libFuzzer: first the files of its corpus (hexadecimal text) and its seeds, then,
// for as long as it is told, mutations of them. It is no match for a fuzzer that sees which code ran; it is
// what every build can do.
//   chains_fuzz [--seconds N] [--seed N] FILE.hex...
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>

#include "tests/fuzz/fuzz.h"

namespace {

using balloon::vmm::fuzz::Bytes8;
constexpr std::size_t kLongest = 64 * 1024;

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

Bytes8 read_hex(const std::string& path) {
  std::ifstream file(path);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  Bytes8 bytes;
  int high = -1;
  for (const char c : text) {
    const int value = digit(c);
    if (value < 0) continue;
    if (high < 0) {
      high = value;
    } else {
      bytes.push_back(static_cast<std::uint8_t>(high * 16 + value));
      high = -1;
    }
  }
  return bytes;
}

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  Bytes8 mutate(const std::vector<Bytes8>& corpus) {
    Bytes8 bytes = corpus[below(corpus.size())];
    for (std::size_t i = 0; i <= below(8); ++i) change(bytes, corpus);
    if (bytes.size() > kLongest) bytes.resize(kLongest);
    return bytes;
  }

 private:
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  std::uint8_t byte() { return static_cast<std::uint8_t>(random_()); }

  void change(Bytes8& bytes, const std::vector<Bytes8>& corpus) {
    const std::size_t at = below(bytes.size() + 1);
    const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(7)) {
      case 0:
        if (at < bytes.size()) bytes[at] ^= static_cast<std::uint8_t>(1U << below(8));
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = byte();
        break;
      case 2: {
        constexpr std::uint8_t kTelling[] = {0, 1, 0x7f, 0x80, 0xff};
        for (std::size_t i = at; i < std::min(bytes.size(), at + below(9)); ++i)
          bytes[i] = kTelling[below(sizeof kTelling)];
        break;
      }
      case 3:
        for (std::size_t i = below(32); i > 0; --i)
          bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), byte());
        break;
      case 4:
        bytes.erase(place, place + static_cast<std::ptrdiff_t>(std::min(below(32), bytes.size() - at)));
        break;
      case 5: {  // the beginning of one and the end of another
        const Bytes8& other = corpus[below(corpus.size())];
        bytes.resize(at);
        bytes.insert(bytes.end(), other.begin() + static_cast<std::ptrdiff_t>(below(other.size() + 1)),
                     other.end());
        break;
      }
      default: {  // a part once more
        const Bytes8 part(place, place + static_cast<std::ptrdiff_t>(std::min(below(64), bytes.size() - at)));
        bytes.insert(bytes.end(), part.begin(), part.end());
        break;
      }
    }
  }
  std::mt19937_64 random_;
};

/// What was tried last, for whoever looks at a crash.
void remember(const Bytes8& input) {
  static const std::string path =
      std::string(std::getenv("TMPDIR") != nullptr ? std::getenv("TMPDIR") : "/tmp") + "/fuzz-" +
      std::to_string(::getpid()) + ".hex";
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return;
  for (const std::uint8_t byte : input) std::fprintf(file, "%02x", byte);
  std::fclose(file);
}

void forget() {
  std::remove((std::string(std::getenv("TMPDIR") != nullptr ? std::getenv("TMPDIR") : "/tmp") + "/fuzz-" +
               std::to_string(::getpid()) + ".hex")
                  .c_str());
}

}  // namespace

int main(int argc, char** argv) {
  long seconds = 0;
  std::uint64_t seed = 1;
  std::vector<Bytes8> corpus = balloon::vmm::fuzz::seeds();
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--seconds" && i + 1 < argc) {
      seconds = std::atol(argv[++i]);
    } else if (argument == "--seed" && i + 1 < argc) {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else {
      corpus.push_back(read_hex(argv[i]));
    }
  }
  if (corpus.empty()) corpus.emplace_back();
  std::size_t runs = 0;
  const auto run = [&](const Bytes8& input) {
    remember(input);
    LLVMFuzzerTestOneInput(input.data(), input.size());
    ++runs;
  };
  for (const Bytes8& input : corpus) run(input);
  Mutator mutator(seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (std::chrono::steady_clock::now() < end) run(mutator.mutate(corpus));
  forget();
  std::printf("%zu inputs, seed %llu\n", runs, static_cast<unsigned long long>(seed));
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Bytes of a recording: numbers, checksums and the frame around each record. No I/O.
//
// A file is kMagic, the format's version (32 bits) and then records, each in a frame: its length, the same
// length XOR kLengthMask, the CRC32C of its payload (all 32 bits, little endian), the payload.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace balloon::policy::recording {

/// Not text, and changed by whatever changes line ends (as PNG's signature).
inline constexpr std::string_view kMagic{
    "\x89"
    "BLREC\r\n",
    8};
/// Raised with every change of what records contain, so with each new tunable or constant of the law; a
/// reader knows one version. The header and the first record, which says who recorded, are the same in all of
/// them.
inline constexpr std::uint32_t kVersion = 11;
/// Of files.
inline constexpr std::string_view kSuffix = ".balloonrec";
inline constexpr std::size_t kHeaderSize = 12;
inline constexpr std::size_t kFrameSize = 12;
/// So that a damaged length is not taken for a record that was being written.
inline constexpr std::uint32_t kLengthMask = 0x5a3c96e1;
/// A first tick of 10,000 guests with labels has some 4 MB: a longer record is a damaged one.
inline constexpr std::uint32_t kRecordMax = 16U << 20;

/// Names, labels: what the daemon takes is shorter.
inline constexpr std::size_t kTextMax = 4096;

/// Of iSCSI and ext4 (RFC 3720, polynomial 0x1EDC6F41 reflected).
std::uint32_t crc32c(std::string_view bytes);

void put_u32(std::string& out, std::uint32_t value);
std::uint32_t get_u32(const char* bytes);

/// Seven bits a byte, the lowest first.
void put_varint(std::string& out, std::uint64_t value);
/// A difference modulo 2^64, short when it is small in either direction, shorter when it is a multiple of
/// `unit`.
void put_difference(std::string& out, std::uint64_t difference, std::uint64_t unit);
void put_text(std::string& out, std::string_view text);

/// Puts the frame around what follows `start` in `out`, where kFrameSize bytes were left for it.
void close_frame(std::string& out, std::size_t start);

/// Reads what the functions above wrote. What cannot be read is 0, and good() is false from then on.
class Input {
 public:
  explicit Input(std::string_view bytes) : left_(bytes) {}

  bool good() const { return good_; }
  bool at_end() const { return left_.empty(); }
  std::size_t left() const { return left_.size(); }
  void spoil() { good_ = false; }

  std::uint8_t byte();
  std::uint64_t varint();
  /// A number of things of at least `least` bytes each, not more than are left.
  std::size_t count(std::size_t least = 1);
  std::uint64_t difference(std::uint64_t unit);
  std::uint64_t fixed64();
  std::string_view text();

 private:
  std::string_view left_;
  bool good_ = true;
};

}  // namespace balloon::policy::recording

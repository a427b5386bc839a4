// SPDX-License-Identifier: Apache-2.0
#include "policy/recording/rows.h"

namespace balloon::policy::recording {
namespace {

constexpr unsigned kEight = 8;

}  // namespace

void RowWriter::end() {
  std::uint8_t eights = 0;
  for (unsigned i = 0; i < kRowMax / kEight; ++i) {
    if ((changed_ >> (i * kEight) & 0xff) != 0) eights |= static_cast<std::uint8_t>(1U << i);
  }
  out_.push_back(static_cast<char>(eights));
  for (unsigned i = 0; i < kRowMax / kEight; ++i) {
    if ((eights >> i & 1) != 0) out_.push_back(static_cast<char>(changed_ >> (i * kEight)));
  }
  out_ += payload_;
}

void RowReader::begin() {
  changed_ = 0;
  at_ = 0;
  const unsigned eights = in_.byte();
  for (unsigned i = 0; i < kRowMax / kEight; ++i) {
    if ((eights >> i & 1) != 0) changed_ |= std::uint64_t{in_.byte()} << (i * kEight);
  }
}

}  // namespace balloon::policy::recording

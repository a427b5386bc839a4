// SPDX-License-Identifier: Apache-2.0
// Reads a recording, record by record. Stands anything: what cannot be is refused, and memory is bounded by
// a small multiple of a record's size.
#pragma once

#include <string_view>

#include "base/error.h"
#include "policy/recording/layout.h"
#include "policy/recording/record.h"

namespace balloon::policy::recording {

/// Of the format, in a file that begins so, with kHeaderSize bytes. An error when it is no recording.
Result<std::uint32_t> version_in(std::string_view header);
/// Why a recording of another version than kVersion is not read, and what to do. `recorded_by`: the version
/// of the program that recorded it, where that can be told.
Error another_version(std::uint32_t version, std::string_view recorded_by);

class Decoder {
 public:
  /// For the next file: forgets what the last one said.
  void reset();
  /// Reads one payload (what is within a frame, and has the right checksum) and says what it was. After an
  /// error the rest of the file cannot be read.
  Result<Kind> read(std::string_view payload);

  const Start& start() const { return start_; }
  const Tunables& tunables() const { return tunables_; }
  const Tick& tick() const { return tick_; }

 private:
  void read_start(Input& in);
  Result<void> read_tunables(Input& in);
  void read_tick(Input& in);
  void read_roster(Input& in);

  Start start_;
  Tunables tunables_;
  Tick tick_;
  Tick before_;
  std::vector<std::size_t> stood_;
};

}  // namespace balloon::policy::recording

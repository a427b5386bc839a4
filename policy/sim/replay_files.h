// SPDX-License-Identifier: Apache-2.0
// Recordings as files: the ticks of one file, or of a directory of them, one after the other.
#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "policy/recording/decoder.h"

namespace balloon::policy::sim {

/// One file. A record that was being written when the recorder was killed is the end of the file; any other
/// damage is an error with its place.
class ReplayFile {
 public:
  static Result<ReplayFile> open(const std::string& path);

  /// The next record's kind; nothing at the end.
  Result<std::optional<recording::Kind>> next();

  const recording::Decoder& decoder() const { return decoder_; }
  const std::string& path() const { return path_; }
  std::uint64_t read() const { return at_; }  ///< bytes so far
  bool torn() const { return torn_; }         ///< it ended within a record

 private:
  using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;
  ReplayFile(std::string path, File file, std::uint64_t size);

  Result<bool> fill(std::size_t count);
  bool only_zeros_left(const std::string& seen);
  std::unexpected<Error> damaged(const std::string& how) const;

  std::string path_;
  File file_;
  std::uint64_t size_;  ///< when it was opened: the recorder may still be at it
  std::uint64_t at_ = 0;
  bool torn_ = false;
  std::string buffer_;
  recording::Decoder decoder_;
};

/// All of a recording's ticks in order, run by run.
class ReplaySource {
 public:
  /// `path`: a file, or a directory with recordings.
  static Result<ReplaySource> open(const std::string& path);

  /// What the next tick is, to those before it.
  enum class Step {
    follows,   ///< the one before
    begins,    ///< a run, from its first decision: the recorded law knew nothing yet
    jumps_in,  ///< decisions before it are not there: the recorded law knew more than can be known now
    ends,      ///< there is none
  };
  Result<Step> next();

  const recording::Tick& tick() const { return file_->decoder().tick(); }
  const Tunables& tunables() const { return file_->decoder().tunables(); }

  std::uint64_t bytes() const { return bytes_; }  ///< of all files
  std::uint64_t bytes_read() const { return read_before_ + (file_ ? file_->read() : 0); }
  std::size_t files() const { return paths_.size(); }
  std::size_t runs() const { return runs_; }
  std::size_t torn() const { return torn_; }                      ///< files that end within a record
  std::uint64_t missing_files() const { return missing_files_; }  ///< that began the recordings and are gone
  std::uint64_t missing_ticks() const { return missing_ticks_; }

 private:
  Result<bool> next_file();

  std::vector<std::string> paths_;
  bool alone_ = false;  ///< one file was asked for, not a directory
  std::size_t next_path_ = 0;
  std::optional<ReplayFile> file_;
  std::optional<std::uint64_t> run_;
  std::uint64_t number_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t read_before_ = 0;
  std::size_t runs_ = 0;
  std::size_t torn_ = 0;
  std::uint64_t missing_files_ = 0;
  std::uint64_t missing_ticks_ = 0;
};

}  // namespace balloon::policy::sim

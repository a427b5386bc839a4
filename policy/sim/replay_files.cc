// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/replay_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

namespace balloon::policy::sim {
namespace {

namespace fs = std::filesystem;
using recording::Kind;

}  // namespace

ReplayFile::ReplayFile(std::string path, File file, std::uint64_t size)
    : path_(std::move(path)), file_(std::move(file)), size_(size) {}

std::unexpected<Error> ReplayFile::damaged(const std::string& how) const {
  return fail(fmt::format("{}: offset {}: {}", path_, at_, how));
}

/// Reads that many bytes into the buffer; false when there are not so many.
Result<bool> ReplayFile::fill(std::size_t count) {
  if (size_ - at_ < count) return false;
  buffer_.resize(count);
  if (std::fread(buffer_.data(), 1, count, file_.get()) != count)
    return fail_errno("reading " + path_, std::ferror(file_.get()) != 0 ? errno : EIO);
  return true;
}

Result<ReplayFile> ReplayFile::open(const std::string& path) {
  File file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (!file) return fail_errno("reading " + path, errno);
  std::error_code error;
  const std::uint64_t size = fs::file_size(path, error);
  if (error) return fail(fmt::format("reading {}: {}", path, error.message()));
  ReplayFile out(path, std::move(file), size);
  if (size == 0) return fail(path + ": it is empty");
  const auto header = out.fill(recording::kHeaderSize);
  if (!header) return std::unexpected(header.error());
  if (!*header) return out.damaged("it ends within the header");
  const auto version = recording::version_in(out.buffer_);
  if (!version) return out.damaged(version.error().message);
  out.at_ = recording::kHeaderSize;
  const auto first = out.next();
  if (*version != recording::kVersion) {
    out.at_ = 0;
    return out.damaged(recording::another_version(*version, out.decoder_.start().version).message);
  }
  if (!first) return std::unexpected(first.error());
  if (*first != Kind::start) return out.damaged("it does not begin with what it is a recording of");
  return out;
}

Result<std::optional<Kind>> ReplayFile::next() {
  if (torn_ || at_ == size_) return std::nullopt;
  const auto frame = fill(recording::kFrameSize);
  if (!frame) return std::unexpected(frame.error());
  if (!*frame) {
    torn_ = true;
    return std::nullopt;
  }
  const std::uint32_t length = recording::get_u32(buffer_.data());
  const std::uint32_t checksum = recording::get_u32(buffer_.data() + 8);
  if ((recording::get_u32(buffer_.data() + 4) ^ recording::kLengthMask) != length) {
    if (!only_zeros_left(buffer_)) return damaged("the length of a record is damaged");
    torn_ = true;
    return std::nullopt;
  }
  if (length == 0 || length > recording::kRecordMax)
    return damaged(fmt::format("a record cannot have {} bytes", length));
  const auto payload = size_ - at_ - recording::kFrameSize >= length ? fill(length) : false;
  if (!payload) return std::unexpected(payload.error());
  const std::uint64_t end = at_ + recording::kFrameSize + length;
  if (!*payload || (end == size_ && recording::crc32c(buffer_) != checksum)) {
    torn_ = true;
    return std::nullopt;
  }
  if (recording::crc32c(buffer_) != checksum) return damaged("a record is damaged: its checksum is another");
  auto kind = decoder_.read(buffer_);
  if (!kind) return damaged(kind.error().message);
  at_ = end;
  return *kind;
}

/// After a power cut a file may be as long as it was to be, and its end never written.
bool ReplayFile::only_zeros_left(const std::string& seen) {
  if (!std::ranges::all_of(seen, [](char c) { return c == 0; })) return false;
  for (int c = std::fgetc(file_.get()); c != EOF; c = std::fgetc(file_.get()))
    if (c != 0) return false;
  return true;
}

Result<ReplaySource> ReplaySource::open(const std::string& path) {
  ReplaySource out;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    for (fs::directory_iterator entry(path, error); !error && entry != fs::directory_iterator();
         entry.increment(error)) {
      if (entry->path().extension() == recording::kSuffix) out.paths_.push_back(entry->path().string());
    }
    if (error) return fail(fmt::format("reading {}: {}", path, error.message()));
    if (out.paths_.empty())
      return fail(fmt::format("{}: there are no recordings (*{}) in it", path, recording::kSuffix));
    std::ranges::sort(out.paths_);
  } else {
    out.paths_.push_back(path);
    out.alone_ = true;
  }
  for (const std::string& each : out.paths_) {
    const std::uint64_t size = fs::file_size(each, error);
    if (error) return fail(fmt::format("reading {}: {}", each, error.message()));
    out.bytes_ += size;
  }
  return out;
}

/// False after the last file.
Result<bool> ReplaySource::next_file() {
  if (file_) {
    read_before_ += file_->read();
    torn_ += file_->torn() ? 1 : 0;
    file_.reset();
  }
  while (next_path_ < paths_.size()) {
    const std::string& path = paths_[next_path_++];
    std::error_code error;
    if (!alone_ && fs::file_size(path, error) < recording::kHeaderSize && !error) {
      ++torn_;  // the recorder was killed as it began it
      continue;
    }
    auto file = ReplayFile::open(path);
    if (!file) return std::unexpected(file.error());
    file_.emplace(std::move(*file));
    return true;
  }
  return false;
}

Result<ReplaySource::Step> ReplaySource::next() {
  while (true) {
    if (!file_) {
      const auto found = next_file();
      if (!found) return std::unexpected(found.error());
      if (!*found) return Step::ends;
    }
    const auto kind = file_->next();
    if (!kind) return std::unexpected(kind.error());
    if (!*kind) {
      const auto found = next_file();
      if (!found) return std::unexpected(found.error());
      if (!*found) return Step::ends;
      continue;
    }
    if (**kind == Kind::tick) break;
  }
  const recording::Start& start = file_->decoder().start();
  const bool new_run = !run_ || *run_ != start.run;
  if (new_run) {
    ++runs_;
    run_ = start.run;
    number_ = 0;
    missing_files_ += start.sequence - 1;
  }
  const std::uint64_t number = tick().number;
  const std::uint64_t expected = number_ + 1;
  number_ = number;
  if (number == expected) return new_run ? Step::begins : Step::follows;
  if (number > expected) missing_ticks_ += number - expected;
  return Step::jumps_in;
}

}  // namespace balloon::policy::sim

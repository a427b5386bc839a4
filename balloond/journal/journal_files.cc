// SPDX-License-Identifier: Apache-2.0
#include "balloond/journal/journal_files.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <vector>

#include "base/files.h"
#include "policy/recording/wire.h"

namespace balloon::daemon {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kFileMode = 0640;

}  // namespace

std::string journal_file_name(const JournalRun& run, std::uint64_t sequence) {
  const auto since_epoch = run.began.time_since_epoch();
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch).count();
  return fmt::format("{:%Y%m%dT%H%M%S}.{:03}Z-{:016x}-{:06}{}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(run.began)), millis % 1000, run.id,
                     sequence, policy::recording::kSuffix);
}

Result<UniqueFd> make_journal_file(const std::string& directory, const std::string& name) {
  BALLOON_TRY(make_directory(directory));
  const std::string path = directory + '/' + name;
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode));
  if (!file) return fail_errno("cannot make " + path, errno);
  return file;
}

Result<void> trim_journal(const std::string& directory, Bytes size, const std::string& keep) {
  struct Recorded {
    fs::path path;
    Bytes size{};
  };
  std::vector<Recorded> files;
  Bytes all{};
  std::error_code error;
  for (fs::directory_iterator entry(directory, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    std::error_code ignored;
    if (entry->path().extension() != policy::recording::kSuffix || !entry->is_regular_file(ignored)) continue;
    const Bytes bytes{entry->file_size(ignored)};
    if (ignored) continue;
    all += bytes;
    files.push_back({entry->path(), bytes});
  }
  if (error) return fail(fmt::format("cannot list {}: {}", directory, error.message()));
  std::ranges::sort(files, {}, &Recorded::path);
  for (const Recorded& file : files) {
    if (all <= size) break;
    if (file.path.filename() == keep) continue;
    if (!fs::remove(file.path, error))
      return fail(fmt::format("cannot remove {}: {}", file.path.string(), error.message()));
    all -= file.size;
  }
  return {};
}

}  // namespace balloon::daemon

// SPDX-License-Identifier: Apache-2.0
#include "balloond/journal/journal.h"

#include <unistd.h>

#include <cerrno>
#include <random>
#include <utility>

#include "base/log.h"

namespace balloon::daemon {
namespace {

std::uint64_t random_id() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace

Journal::Journal(const Clock& clock, JournalConfig config)
    : clock_(clock),
      config_(std::move(config)),
      run_({.began = clock.wall(), .id = random_id()}),
      thread_([this] { run(); }) {}

Journal::~Journal() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Journal::tunables(const policy::Tunables& tunables) {
  tunables_ = tunables;
  if (!open_) return;  // the next file begins with them
  Chunk chunk;
  encoder_.tunables(tunables, chunk.bytes);
  open_ = post(std::move(chunk));
}

void Journal::record(WallTime wall, const policy::Snapshot& seen,
                     std::span<const policy::recording::Labels* const> labels, const policy::Plan& plan) {
  ++number_;
  if (broken_.exchange(false)) lose("the last file could not be written");
  if (!ready()) {
    ++counters_.lost;
    return;
  }
  Chunk chunk{.decisions = 1};
  if (!open_ || file_bytes_ >= config_.file_size) begin_file(chunk);
  const auto since_epoch = std::chrono::floor<std::chrono::milliseconds>(wall.time_since_epoch());
  if (encoder_.tick(number_, since_epoch, seen, labels, plan, chunk.bytes)) {
    open_ = post(std::move(chunk));
  } else {
    lose("a decision is too large for a record");
  }
  if (!open_) ++counters_.lost;
}

/// The newest file cannot go on: what follows would lean on what is lost.
void Journal::lose(std::string_view why) {
  open_ = false;
  failed_at_ = clock_.now();
  complain(why);
}

/// Once, until it goes on.
void Journal::complain(std::string_view why) {
  if (counters_.failing.exchange(true)) return;
  log::warning("decisions are not recorded, which is tried again every {} s: {}",
               std::chrono::duration_cast<std::chrono::seconds>(kRetryAfter).count(), why);
}

/// Whether it is worth an attempt.
bool Journal::ready() { return open_ || failed_at_ == Time{} || clock_.now() - failed_at_ >= kRetryAfter; }

/// Each file stands alone: it says who made it, and what the law is tuned by, and leans on no other.
void Journal::begin_file(Chunk& chunk) {
  chunk.opens = ++sequence_;
  file_bytes_ = {};
  encoder_.begin({.run = run_.id, .sequence = sequence_, .version = BALLOON_VERSION}, chunk.bytes);
  encoder_.tunables(tunables_, chunk.bytes);
}

/// False when there is no room: what leans on this chunk is lost, too.
bool Journal::post(Chunk chunk) {
  file_bytes_ += Bytes{chunk.bytes.size()};
  UniqueLock lock(mutex_);
  if (queued_ + chunk.bytes.size() > kQueueMax) {
    lock.unlock();
    lose("writing to " + config_.directory + " takes too long");
    return false;
  }
  queued_ += chunk.bytes.size();
  queue_.push_back(std::move(chunk));
  lock.unlock();
  changed_.notify_one();
  return true;
}

void Journal::run() {
  while (true) {
    Chunk chunk;
    {
      UniqueLock lock(mutex_);
      changed_.wait(lock.standard(), [this]() REQUIRES(mutex_) { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      chunk = std::move(queue_.front());
      queue_.pop_front();
    }
    write(chunk);
    const MutexLock lock(mutex_);
    queued_ -= chunk.bytes.size();  // not sooner: it takes memory as long as it is written
  }
}

void Journal::write(const Chunk& chunk) {
  if (chunk.opens != 0) {
    file_.reset();
    if (const auto opened = open(chunk.opens); !opened) give_up(opened.error());
  }
  // Without a file the chunk leans on what could not be written.
  if (file_) {
    if (const auto appended = append(chunk.bytes); !appended) give_up(appended.error());
  }
  if (!file_) {
    counters_.lost += chunk.decisions;
    return;
  }
  counters_.decisions += chunk.decisions;
  counters_.bytes += chunk.bytes.size();
  if (chunk.opens != 0 && counters_.failing.exchange(false))
    log::info("decisions are recorded again, in {}", config_.directory);
}

Result<void> Journal::open(std::uint64_t sequence) {
  written_ = 0;
  const std::string name = journal_file_name(run_, sequence);
  auto file = make_journal_file(config_.directory, name);
  if (!file) return std::unexpected(file.error());
  file_ = std::move(*file);
  path_ = config_.directory + '/' + name;
  // Room for the file that begins, as far as it is meant to grow.
  const Bytes room = above(config_.total_size, config_.file_size);
  return trim_journal(config_.directory, room, name);
}

/// After a failure the file ends with its last whole record.
Result<void> Journal::append(const std::string& bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::write(file_.get(), bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count < 0 ? errno : ENOSPC;
      [[maybe_unused]] const int truncated = ::ftruncate(file_.get(), static_cast<off_t>(written_));
      return fail_errno("cannot write to " + config_.directory, error);
    }
    done += static_cast<std::size_t>(count);
  }
  written_ += bytes.size();
  return {};
}

void Journal::give_up(const Error& error) {
  if (file_ && written_ == 0) ::unlink(path_.c_str());
  file_.reset();
  complain(error.message);
  broken_ = true;
}

}  // namespace balloon::daemon

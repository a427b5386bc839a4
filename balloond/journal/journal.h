// SPDX-License-Identifier: Apache-2.0
// The journal: every decision of the daemon, with what it was made from, in files that `balloon-sim replay`
// reads.
//
// The control thread only puts bytes into a bounded queue; a thread of the journal's own writes them. What
// goes wrong with files costs recordings and never a decision: it is logged once, counted, and tried again
// later.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <thread>

#include "balloond/clock.h"
#include "balloond/config/journal_config.h"
#include "balloond/journal/journal_files.h"
#include "base/bytes.h"
#include "base/mutex.h"
#include "policy/recording/encoder.h"

namespace balloon::daemon {

/// For the metrics. Written by the journal, read by any thread.
struct JournalCounters {
  std::atomic<std::uint64_t> decisions{0};  ///< recorded
  std::atomic<std::uint64_t> lost{0};       ///< decisions that were not
  std::atomic<std::uint64_t> bytes{0};      ///< written
  std::atomic<bool> failing{false};
};

class Journal {
 public:
  /// Bytes that wait to be written. A disk that is slower than this for a minute loses decisions.
  static constexpr std::size_t kQueueMax = 16U << 20;
  /// After a failure nothing is tried for this long.
  static constexpr std::chrono::nanoseconds kRetryAfter = std::chrono::seconds(30);

  Journal(const Clock& clock, JournalConfig config);
  /// Writes what waits, for as long as it can be written.
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// Control thread: what the law is tuned by, from the next decision on.
  void tunables(const policy::Tunables& tunables);
  /// Control thread, never blocks: one decision. `labels`: of the guests, in the snapshot's order.
  void record(WallTime wall, const policy::Snapshot& seen,
              std::span<const policy::recording::Labels* const> labels, const policy::Plan& plan);

  const JournalCounters& counters() const { return counters_; }

 private:
  struct Chunk {
    std::uint64_t opens = 0;  ///< begins the file of this sequence; 0: goes on with the last one
    std::uint64_t decisions = 0;
    std::string bytes{};
  };

  bool ready();
  void begin_file(Chunk& chunk);
  bool post(Chunk chunk);
  void lose(std::string_view why);
  void complain(std::string_view why);

  void run();
  void write(const Chunk& chunk);
  Result<void> open(std::uint64_t sequence);
  Result<void> append(const std::string& bytes);
  void give_up(const Error& error);

  const Clock& clock_;
  const JournalConfig config_;
  const JournalRun run_;
  JournalCounters counters_;

  // The control thread's.
  policy::recording::Encoder encoder_;
  policy::Tunables tunables_;
  std::uint64_t number_ = 0;    ///< decisions of this run
  std::uint64_t sequence_ = 0;  ///< of the newest file
  Bytes file_bytes_{};          ///< of it, with what waits
  bool open_ = false;           ///< the newest file can go on
  Time failed_at_{};

  std::atomic<bool> broken_{false};  ///< the file that is being written can not go on
  Mutex mutex_;
  std::condition_variable changed_;
  std::deque<Chunk> queue_ GUARDED_BY(mutex_);
  std::size_t queued_ GUARDED_BY(mutex_) = 0;  ///< bytes
  bool stopping_ GUARDED_BY(mutex_) = false;

  // The writer's.
  UniqueFd file_;
  std::string path_;           ///< of the file
  std::uint64_t written_ = 0;  ///< of the file, whole records
  std::thread thread_;
};

}  // namespace balloon::daemon

// SPDX-License-Identifier: Apache-2.0
// Writes lines to a descriptor from a thread of its own, so that who has something to say never waits for who
// reads it: a full pipe, a slow disk or a stopped journald costs lines, which are counted, and nobody's time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace balloon {

class LineWriter {
 public:
  enum class Weight : std::uint8_t { ordinary, important };

  /// Does not own `fd`. `notice` makes the line that says how many were lost; it is written once lines are
  /// taken again. The thread starts with the first line.
  LineWriter(int fd, std::function<std::string(std::uint64_t lost)> notice);
  /// Gives what waits kDrainMax to be written.
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  /// Queues a line that ends in a newline; loses it when too much waits. Never waits. The last quarter of the
  /// queue is for important lines.
  void add(std::string line, Weight weight);
  /// Waits until all is written, at most `limit`. Returns whether it is.
  bool drain(std::chrono::milliseconds limit);
  std::uint64_t lost() const;

  /// Bytes that wait at most: some 8,000 lines, a second of the worst storm.
  static constexpr std::size_t kQueueMax = 1 << 20;
  static constexpr std::chrono::milliseconds kDrainMax{500};

 private:
  struct Shared;
  static void run(const std::shared_ptr<Shared>& shared);

  std::shared_ptr<Shared>
      shared_;  ///< the thread's, too: it may be stuck in a write for as long as the process lives
};

}  // namespace balloon

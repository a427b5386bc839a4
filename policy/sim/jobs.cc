// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/jobs.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <thread>

namespace balloon::policy::sim {
namespace {

/// Work shorter than this shows no bar.
constexpr auto kLongRun = std::chrono::seconds(1);
constexpr auto kRefresh = std::chrono::milliseconds(200);
constexpr std::size_t kBarWidth = 40;

}  // namespace

std::vector<RunResult> run_jobs(std::span<const Job> jobs, const OnProgress& on_progress) {
  std::vector<RunResult> results(jobs.size());
  std::atomic<std::size_t> next = 0;
  std::atomic<std::size_t> done = 0;
  contenders();  // made before threads ask for them
  const auto work = [&] {
    for (std::size_t i = next++; i < jobs.size(); i = next++) {
      results[i] = run(*jobs[i].scenario, *jobs[i].contender, jobs[i].options);
      ++done;
    }
  };
  const std::size_t count =
      std::min<std::size_t>(jobs.size(), std::max(1U, std::thread::hardware_concurrency()));
  std::vector<std::jthread> threads;
  threads.reserve(count);
  for (std::size_t i = 0; i < count; ++i) threads.emplace_back(work);
  while (done < jobs.size() && on_progress) {
    std::this_thread::sleep_for(std::min<std::chrono::milliseconds>(
        kRefresh, std::chrono::milliseconds(10 + 10 * static_cast<int>(std::min<std::size_t>(done, 19)))));
    on_progress(done, jobs.size());
  }
  threads.clear();
  return results;
}

void ProgressBar::show(std::size_t done, std::size_t all) {
  if (isatty(STDERR_FILENO) == 0 || std::chrono::steady_clock::now() - began_ < kLongRun || all == 0) return;
  shown_ = true;
  const std::size_t filled = kBarWidth * done / all;
  fmt::print(stderr, "\r[{}{}] {}/{}", std::string(filled, '#'), std::string(kBarWidth - filled, ' '), done,
             all);
  std::fflush(stderr);
}

ProgressBar::~ProgressBar() {
  if (shown_) fmt::print(stderr, "\r\033[K");
}

}  // namespace balloon::policy::sim

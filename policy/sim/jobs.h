// SPDX-License-Identifier: Apache-2.0
// Many runs, on all processors; the results are in the order of the jobs whatever finishes first.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "policy/sim/runner.h"

namespace balloon::policy::sim {

struct Job {
  const Scenario* scenario = nullptr;
  const Contender* contender = nullptr;
  RunOptions options;
};

/// Called now and then, from the calling thread, with how many are done.
using OnProgress = std::function<void(std::size_t done, std::size_t all)>;

std::vector<RunResult> run_jobs(std::span<const Job> jobs, const OnProgress& on_progress);

/// A bar on standard error when it is a terminal and the work is long; nothing otherwise.
class ProgressBar {
 public:
  ~ProgressBar();
  void show(std::size_t done, std::size_t all);

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  bool shown_ = false;
};

}  // namespace balloon::policy::sim

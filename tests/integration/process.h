// SPDX-License-Identifier: Apache-2.0
// Programs under test: started, waited for, killed.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace balloon::test {

struct Outcome {
  int exit_code = -1;  ///< 128 + signal when killed
  std::string out;
  std::string err;
};

/// Runs a program to its end; `environment` entries ("NAME=value") are added.
Outcome run(const std::vector<std::string>& command, const std::vector<std::string>& environment = {});

/// A program that stays: its output goes to a file. Killed at the latest when this goes.
class Background {
 public:
  Background(const std::vector<std::string>& command, std::string log_path);
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  void signal(int number) const;
  /// Its exit code, or 128 + signal; waits up to `limit` and then kills it. A daemon takes a second to end at
  /// most; one that waits for a peer never ends.
  int wait(std::chrono::milliseconds limit = std::chrono::seconds(30));
  /// SIGSTOP, and waits until no thread of it runs any more.
  bool stop();
  bool running();
  std::string log() const;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int status_ = -1;
  std::string log_path_;
};

/// Polls until `condition` holds; false when it does not within `limit`, which is generous because machines
/// are slow and do other things.
bool eventually(const std::function<bool()>& condition,
                std::chrono::milliseconds limit = std::chrono::seconds(60));

/// A directory that goes with the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, const std::string& text) const;

 private:
  std::string path_;
};

std::string read_text(const std::string& path);

}  // namespace balloon::test

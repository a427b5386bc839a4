// SPDX-License-Identifier: Apache-2.0
// Huge pages for a test, from the host's pool of 2 MiB pages: so many beyond what others have taken, for as
// long as it lives, whatever the host allowed before, and however this process ends: a process of its own
// puts the host's setting back. Needs root. One test of the machine at a time.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "base/unique_fd.h"

namespace balloon::vmm::test {

class LentPool {
 public:
  explicit LentPool(int pages) {
    const auto path = std::filesystem::temp_directory_path() / "balloon-test-huge-pages";
    lock_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock_ || ::flock(lock_.get(), LOCK_EX) != 0)
      throw std::runtime_error("cannot lock " + path.string());
    if (meminfo("HugePages_Free:") > meminfo("HugePages_Rsvd:"))
      throw std::runtime_error("the host's pool of huge pages has free ones: these tests need it empty");
    std::ifstream(kAllowed) >> before_;
    others_ = meminfo("HugePages_Surp:");
    start_guard();
    set(pages);
  }
  ~LentPool() {
    alive_.reset();
    ::waitpid(guard_, nullptr, 0);
  }
  LentPool(const LentPool&) = delete;
  LentPool& operator=(const LentPool&) = delete;

  /// What the host allowed.
  int before() const { return before_; }

  void set(int pages) {
    if (!(std::ofstream(kAllowed) << others_ + pages << std::flush))
      throw std::runtime_error(std::string("cannot write ") + kAllowed + ": are you root?");
  }

 private:
  static constexpr const char* kAllowed = "/proc/sys/vm/nr_overcommit_hugepages";

  static int meminfo(const std::string& key) {
    std::ifstream file("/proc/meminfo");
    for (std::string word; file >> word;) {
      if (int pages = 0; word == key && file >> pages) return pages;
    }
    throw std::runtime_error("no " + key + " in /proc/meminfo");
  }

  /// Its only descriptors are the pipe, which ends with this process, and the lock, which so outlives it.
  void start_guard() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("cannot make a pipe");
    const UniqueFd end(ends[0]);
    alive_ = UniqueFd(ends[1]);
    const std::string text = std::to_string(before_);
    guard_ = ::fork();
    if (guard_ < 0) throw std::runtime_error("cannot fork");
    if (guard_ > 0) return;
    ::setsid();  // not ended with this one's group
    ::dup2(end.get(), 0);
    ::dup2(lock_.get(), 1);
    ::close_range(2, ~0U, 0);
    char byte = 0;
    while (::read(0, &byte, 1) < 0) {
    }
    const int setting = ::open(kAllowed, O_WRONLY);
    [[maybe_unused]] const ssize_t written = ::write(setting, text.data(), text.size());
    ::_exit(0);
  }

  UniqueFd lock_;
  UniqueFd alive_;
  pid_t guard_ = -1;
  int before_ = 0;
  int others_ = 0;  // pages beyond the pool that other processes have
};

}  // namespace balloon::vmm::test

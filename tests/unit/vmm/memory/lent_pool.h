// Huge pages for a test, from the host's pool of 2 MiB pages: allowed beyond the pool's size for as long as
// it lives. Needs root. One test of the machine at a time.
#pragma once

#include <fcntl.h>
#include <sys/file.h>

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
    std::ifstream(kFile) >> before_;
    set(pages);
  }
  ~LentPool() { std::ofstream(kFile) << before_; }
  LentPool(const LentPool&) = delete;
  LentPool& operator=(const LentPool&) = delete;

  void set(int pages) {
    if (!(std::ofstream(kFile) << before_ + pages << std::flush))
      throw std::runtime_error(std::string("cannot write ") + kFile + ": are you root?");
  }

 private:
  static constexpr const char* kFile = "/proc/sys/vm/nr_overcommit_hugepages";
  UniqueFd lock_;
  int before_ = 0;
};

}  // namespace balloon::vmm::test

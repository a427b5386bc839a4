// Huge pages for a test, from the host's pool of 2 MiB pages: so many beyond what others have taken, for as
// long as it lives, whatever the host allowed before. Needs root. One test of the machine at a time.
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
    if (meminfo("HugePages_Free:") > meminfo("HugePages_Rsvd:"))
      throw std::runtime_error("the host's pool of huge pages has free ones: these tests need it empty");
    std::ifstream(kAllowed) >> before_;
    others_ = meminfo("HugePages_Surp:");
    set(pages);
  }
  ~LentPool() { std::ofstream(kAllowed) << before_; }
  LentPool(const LentPool&) = delete;
  LentPool& operator=(const LentPool&) = delete;

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

  UniqueFd lock_;
  int before_ = 0;
  int others_ = 0;  // pages beyond the pool that other processes have
};

}  // namespace balloon::vmm::test

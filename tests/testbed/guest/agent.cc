// SPDX-License-Identifier: Apache-2.0
// The worker in a testbed guest. Reads one command a line from the serial console and answers each with one
// JSON line:
//   load SIZE         map SIZE (e.g. 1536M), fill it as fast as the guest lets us, and keep using it
//   free              give the load back
//   read PATH [SIZE]  read the file, or the files in a directory, in turn (SIZE bytes at most) through the
//   page cache status            how far load and read are, and the guest's own memory figures check count
//   the load's present and swapped pages exactly (reads the page map) cpus              how many are online
//   ping ADDRESS      whether it answers
//   sh COMMAND        run it with the guest's shell: its status and the first of its output
//   poweroff, reboot
// Events come unasked, once each: "ready" at start, "loaded" when all of a load is resident, "read" when a
// read ends.
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint64_t kMiB = 1U << 20;
constexpr std::size_t kPage = 4096;

/// While it holds a load, the worker touches this much every kHoldTick, round and round: memory in use, not
/// forgotten. On an emulated host one touch costs some 25 us: more would leave the other guests no CPU.
constexpr std::uint64_t kHoldStep = 256 << 10;
/// Pages that were swapped come first, this much at a time, so that they are back soon after the guest has
/// room.
constexpr std::uint64_t kSwapStep = 512 << 10;
constexpr auto kHoldTick = std::chrono::milliseconds(100);
/// A load without a swapped page is looked through again after this, if the process has any page in swap at
/// all.
constexpr auto kScanTick = std::chrono::seconds(1);
/// Each character of an answer is an exit to the VMM. What `lspci -v` says of six devices fits.
constexpr std::size_t kShellOutputMax = 8000;

/// Writes whole lines, from any thread.
void say(const std::string& line) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const std::string out = line + "\n";
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t wrote = write(STDOUT_FILENO, out.data() + done, out.size() - done);
    if (wrote <= 0) return;
    done += static_cast<std::size_t>(wrote);
  }
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + '"';
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// "512M" as bytes.
std::optional<std::uint64_t> parse_size(const std::string& text) {
  std::size_t used = 0;
  std::uint64_t value = 0;
  while (used < text.size() && text[used] >= '0' && text[used] <= '9' && used < 12) {
    value = value * 10 + static_cast<std::uint64_t>(text[used++] - '0');
  }
  const std::string unit = text.substr(used);
  if (used == 0) return std::nullopt;
  if (unit == "M") return value * kMiB;
  if (unit == "G") return value * 1024 * kMiB;
  if (unit == "K") return value * 1024;
  if (unit.empty()) return value;
  return std::nullopt;
}

/// The numbers of a "name value" or "name: value kB" file, for the names asked for.
std::map<std::string, std::uint64_t> numbers_in(const char* path, const std::vector<std::string>& names) {
  std::map<std::string, std::uint64_t> found;
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t value = 0;
    if (!(words >> name >> value)) continue;
    if (name.ends_with(':')) name.pop_back();
    if (std::find(names.begin(), names.end(), name) != names.end()) found[name] = value;
  }
  return found;
}

/// Of this process, which has little beside its load.
struct Residency {
  std::uint64_t resident = 0;
  std::uint64_t swapped = 0;
};
Residency own_residency() {
  auto kib = numbers_in("/proc/self/status", {"RssAnon", "VmSwap"});
  return {.resident = kib["RssAnon"] * 1024, .swapped = kib["VmSwap"] * 1024};
}

/// Pages that neither KSM nor compression can collapse: each a window at its own place in random bytes, with
/// its number.
class PagePattern {
 public:
  PagePattern() : noise_(kWindows * sizeof(std::uint64_t) + kPage) {
    std::mt19937_64 random(std::random_device{}());
    for (std::size_t at = 0; at + sizeof(std::uint64_t) <= noise_.size(); at += sizeof(std::uint64_t)) {
      const std::uint64_t word = random();
      std::memcpy(&noise_[at], &word, sizeof word);
    }
    salt_ = random();
  }

  void fill(std::byte* page, std::uint64_t number) const {
    // An odd multiplier spreads neighbours; the stamp makes equal windows differ.
    const std::uint64_t window = (number * 0x9E3779B97F4A7C15U) % kWindows;
    std::memcpy(page, &noise_[window * sizeof(std::uint64_t)], kPage);
    const std::uint64_t stamp = salt_ + number;
    std::memcpy(page, &stamp, sizeof stamp);
  }

 private:
  static constexpr std::size_t kWindows = 16384;
  std::vector<std::byte> noise_;
  std::uint64_t salt_ = 0;
};

/// Anonymous memory that is filled, then kept in use until destroyed.
class Load {
 public:
  static std::unique_ptr<Load> start(std::uint64_t size) {
    void* memory =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    return std::unique_ptr<Load>(new Load(static_cast<std::byte*>(memory), size));
  }
  ~Load() {
    thread_.request_stop();
    thread_.join();
    munmap(memory_, size_);
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  std::string status() const {
    const Residency residency = own_residency();
    std::ostringstream out;
    out << "{\"requested\":" << size_ << ",\"touched\":" << touched_
        << ",\"resident\":" << std::min<std::uint64_t>(touched_, residency.resident)
        << ",\"swapped\":" << residency.swapped << ",\"seconds\":" << seconds_since(started_)
        << ",\"satisfied_after\":" << satisfied_after_ << "}";
    return out.str();
  }

  /// Present and swapped bytes by the page map (Documentation/admin-guide/mm/pagemap.rst: bit 63 present, 62
  /// swapped).
  Residency check() const {
    Residency found;
    const int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (map < 0) return found;
    std::vector<std::uint64_t> entries(8192);
    const std::uint64_t first = reinterpret_cast<std::uintptr_t>(memory_) / kPage;
    for (std::uint64_t page = 0; page < size_ / kPage;) {
      const std::uint64_t wanted = std::min<std::uint64_t>(entries.size(), size_ / kPage - page);
      const ssize_t got = pread(map, entries.data(), wanted * sizeof(std::uint64_t),
                                static_cast<off_t>((first + page) * sizeof(std::uint64_t)));
      if (got <= 0) break;
      const std::uint64_t count = static_cast<std::uint64_t>(got) / sizeof(std::uint64_t);
      for (std::uint64_t i = 0; i < count; ++i) {
        if ((entries[i] >> 63) & 1) found.resident += kPage;
        if ((entries[i] >> 62) & 1) found.swapped += kPage;
      }
      page += count;
    }
    close(map);
    return found;
  }

 private:
  Load(std::byte* memory, std::uint64_t size)
      : memory_(memory), size_(size), thread_([this](const std::stop_token& stop) { work(stop); }) {}

  void work(const std::stop_token& stop) {
    {
      const PagePattern pattern;
      for (std::uint64_t at = 0; at < size_ && !stop.stop_requested(); at += kPage) {
        pattern.fill(memory_ + at, at / kPage);
        touched_ = at + kPage;
      }
    }
    std::uint64_t cursor = 0;
    auto next_scan = Clock::now();
    while (!stop.stop_requested()) {
      bool swapped = false;
      // The process may have pages in swap that are not the load's: the page map knows, but is slow to read.
      if (own_residency().swapped > 0 && Clock::now() >= next_scan) {
        swapped = touch_swapped(cursor, stop);
        if (!swapped) next_scan = Clock::now() + kScanTick;
      }
      if (!swapped) {
        if (satisfied_after_ < 0) {
          satisfied_after_ = seconds_since(started_);
          say("{\"event\":\"loaded\",\"load\":" + status() + "}");
        }
        cursor = touch(cursor, kHoldStep);
      }
      std::this_thread::sleep_for(kHoldTick);
    }
  }

  /// Touches `size` bytes from `cursor` on, round and round; returns where it stopped.
  std::uint64_t touch(std::uint64_t cursor, std::uint64_t size) {
    for (std::uint64_t step = 0; step < size; step += kPage) {
      volatile std::byte* byte = memory_ + cursor;
      *byte = *byte;
      cursor = (cursor + kPage) % size_;
    }
    return cursor;
  }

  /// Touches the next kSwapStep bytes that are in swap, from `cursor` on, and moves it there. Whether there
  /// were any.
  bool touch_swapped(std::uint64_t& cursor, const std::stop_token& stop) {
    const int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (map < 0) return false;
    std::vector<std::uint64_t> entries(4096);
    const std::uint64_t first = reinterpret_cast<std::uintptr_t>(memory_) / kPage;
    std::uint64_t touched = 0;
    for (std::uint64_t seen = 0; seen < size_ && touched < kSwapStep && !stop.stop_requested();) {
      const std::uint64_t wanted = std::min<std::uint64_t>(entries.size(), (size_ - cursor) / kPage);
      const ssize_t got = pread(map, entries.data(), wanted * sizeof(std::uint64_t),
                                static_cast<off_t>((first + cursor / kPage) * sizeof(std::uint64_t)));
      if (got <= 0) break;
      const std::uint64_t count = static_cast<std::uint64_t>(got) / sizeof(std::uint64_t);
      for (std::uint64_t i = 0; i < count && touched < kSwapStep; ++i) {
        if (((entries[i] >> 62) & 1) != 0) {
          touch(cursor, kPage);
          touched += kPage;
        }
        cursor = (cursor + kPage) % size_;
        seen += kPage;
      }
    }
    close(map);
    return touched > 0;
  }

  std::byte* memory_;
  std::uint64_t size_;
  Clock::time_point started_ = Clock::now();
  std::atomic<std::uint64_t> touched_ = 0;
  std::atomic<double> satisfied_after_ = -1;
  std::jthread thread_;
};

/// Reads files once through the page cache.
class Reader {
 public:
  Reader(std::string path, std::uint64_t limit)
      : path_(std::move(path)), limit_(limit), thread_([this](const std::stop_token& stop) { work(stop); }) {}
  std::uint64_t bytes() const { return bytes_; }

 private:
  void work(const std::stop_token& stop) {
    const auto started = Clock::now();
    for (const std::string& file : files()) read_file(file, stop);
    say("{\"event\":\"read\",\"bytes\":" + std::to_string(bytes_) +
        ",\"seconds\":" + std::to_string(seconds_since(started)) + "}");
  }

  std::vector<std::string> files() const {
    DIR* directory = opendir(path_.c_str());
    if (directory == nullptr) return {path_};
    std::vector<std::string> found;
    while (const dirent* entry = readdir(directory)) {
      if (entry->d_name[0] != '.') found.push_back(path_ + "/" + entry->d_name);
    }
    closedir(directory);
    std::sort(found.begin(), found.end());
    return found;
  }

  void read_file(const std::string& path, const std::stop_token& stop) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    std::vector<std::byte> buffer(kMiB);
    while (!stop.stop_requested() && bytes_ < limit_) {
      const ssize_t got = read(file, buffer.data(), std::min<std::uint64_t>(buffer.size(), limit_ - bytes_));
      if (got <= 0) break;
      bytes_ += static_cast<std::uint64_t>(got);
    }
    close(file);
  }

  std::string path_;
  std::uint64_t limit_;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::jthread thread_;
};

class Agent {
 public:
  std::string answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    std::string first;
    std::string second;
    words >> command >> first >> second;
    if (command == "load") return load(first);
    if (command == "read") return read_files(first, second);
    if (command == "status") return status();
    if (command == "check") return check();
    if (command == "cpus") return "{\"cpus\":" + std::to_string(sysconf(_SC_NPROCESSORS_ONLN)) + "}";
    if (command == "ping") return ping(first);
    if (command == "sh") return shell(line.substr(line.find("sh") + 2));
    if (command == "free") {
      load_.reset();
      return R"({"ok":"free"})";
    }
    if (command == "poweroff") return end(RB_POWER_OFF);
    if (command == "reboot") return end(RB_AUTOBOOT);
    return "{\"error\":" + quoted("unknown command " + line) + "}";
  }

 private:
  std::string load(const std::string& size) {
    const auto bytes = parse_size(size);
    if (!bytes || *bytes == 0 || *bytes % kPage != 0) return R"({"error":"load takes a size such as 1536M"})";
    load_.reset();
    load_ = Load::start(*bytes);
    if (!load_) return R"({"error":"cannot map that much"})";
    return R"({"ok":"load"})";
  }

  std::string read_files(const std::string& path, const std::string& size) {
    const auto limit = size.empty() ? std::optional<std::uint64_t>(UINT64_MAX) : parse_size(size);
    struct stat found{};
    if (!limit || stat(path.c_str(), &found) != 0) {
      return "{\"error\":" + quoted("read takes a path that exists and a size, got " + path + " " + size) +
             "}";
    }
    reader_ = std::make_unique<Reader>(path, *limit);
    return R"({"ok":"read"})";
  }

  std::string status() const {
    std::ostringstream out;
    out << "{\"load\":" << (load_ ? load_->status() : "null")
        << ",\"read_bytes\":" << (reader_ ? reader_->bytes() : 0) << ",\"meminfo\":{";
    const char* separator = "";
    for (const auto& [name, kib] : numbers_in(
             "/proc/meminfo", {"MemTotal", "MemFree", "MemAvailable", "Cached", "SwapTotal", "SwapFree"})) {
      out << separator << quoted(name) << ':' << kib * 1024;
      separator = ",";
    }
    out << "},\"vmstat\":{";
    separator = "";
    for (const auto& [name, count] : numbers_in(
             "/proc/vmstat", {"pswpin", "pswpout", "oom_kill", "balloon_inflate", "balloon_deflate"})) {
      out << separator << quoted(name) << ':' << count;
      separator = ",";
    }
    return out.str() + "}}";
  }

  std::string check() const {
    const Residency found = load_ ? load_->check() : Residency{};
    return "{\"present\":" + std::to_string(found.resident) +
           ",\"swapped\":" + std::to_string(found.swapped) + "}";
  }

  static std::string ping(const std::string& address) {
    if (address.empty() || address.find_first_not_of("0123456789.") != std::string::npos) {
      return R"({"error":"ping takes an IPv4 address"})";
    }
    const int status = std::system(("/bin/ping -c 3 -w 30 " + address + " >/dev/null 2>&1").c_str());
    return status == 0 ? R"({"ping":"answered"})" : R"({"ping":"unanswered"})";
  }

  static std::string shell(const std::string& command) {
    FILE* pipe = popen(command.c_str(), "re");
    if (pipe == nullptr) return R"({"error":"cannot start a shell"})";
    std::string output;
    std::array<char, 512> buffer{};
    for (std::size_t got = 0; (got = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
      output.append(buffer.data(), std::min(got, kShellOutputMax - std::min(kShellOutputMax, output.size())));
    }
    const int status = pclose(pipe);
    return "{\"status\":" + std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : 128) +
           ",\"output\":" + quoted(output) + "}";
  }

  static std::string end(int how) {
    say(how == RB_AUTOBOOT ? R"({"ok":"reboot"})" : R"({"ok":"poweroff"})");
    tcdrain(STDOUT_FILENO);
    sync();
    reboot(how);
    return R"({"error":"the kernel refused"})";
  }

  std::unique_ptr<Load> load_;
  std::unique_ptr<Reader> reader_;
};

/// No echo and no line-ending games on the serial console.
void make_raw(int terminal) {
  termios settings{};
  if (tcgetattr(terminal, &settings) != 0) return;
  settings.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  settings.c_oflag &= ~static_cast<tcflag_t>(OPOST);
  tcsetattr(terminal, TCSANOW, &settings);
}

}  // namespace

int main(int argc, char** argv) {
  make_raw(STDIN_FILENO);
  // Starts after the first mean that the previous agent died, e.g. was killed for memory.
  const std::string starts = argc > 1 ? argv[1] : "1";
  std::string boot_id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot_id;
  say("{\"event\":\"ready\",\"starts\":" + starts + ",\"boot\":" + quoted(boot_id) + "}");
  Agent agent;
  std::string line;
  while (std::getline(std::cin, line)) {
    if (!line.empty()) say(agent.answer(line));
  }
  return 0;
}

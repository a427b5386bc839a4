// SPDX-License-Identifier: Apache-2.0
// A daemon in a crowd: many guests, watchers of which some never read, a `balloonctl watch` that is stopped,
// a log that nobody reads, thousands of connections that say nothing, and schedulers that ask. Do its
// decisions begin in time, are calls answered in time, what does it take, and does it let others in and end?
//   crowd_load PROGRAMS [GUESTS [HZ [SECONDS]]]
//     PROGRAMS   directory of balloond and balloonctl
//     HZ         messages a second of each guest (default 1)
// The daemon has the first CPU for itself, as far as this is ours to say, and the crowd the second.
// Prints one line of JSON. Exit status 1 when a bar is missed. With more than 1,000 guests only those are
// held: that all connect and are controlled, and that the daemon ends.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/un.h>

#include <array>
#include <sstream>

#include "balloon/v1/scheduler.grpc.pb.h"
#include "base/unique_fd.h"
#include "tests/bench/linked_guests.h"
#include "tests/bench/load.h"

namespace balloon::test {
namespace {

// What is asked of the daemon.
constexpr double kLatenessMax = 0.050;  // seconds, of 99 of 100 decisions
constexpr double kCallMax = 0.010;      // seconds, of 99 of 100 calls
constexpr double kCoreMax = 0.25;
constexpr double kMemoryMaxMb = 150;
constexpr double kEndMax = 3;  // seconds after SIGTERM

// The crowd.
constexpr int kWatchersOfProcess = 10;
constexpr int kWatcherProcesses = 5;
constexpr int kDeafWatchers = 5;
constexpr int kSilent = 4000;
/// A call, and how often a second it is made.
struct Asked {
  const char* name;
  int rate;
};
constexpr Asked kAsked[] = {{"GetGuest", 100}, {"GetHost", 60}, {"Reserve", 20}, {"Release", 20}};

struct Load {
  std::string programs;
  int guests = 1000;
  double rate = 1;
  int seconds = 60;
  bool is_crowd() const { return guests <= 1000; }
};

/// `deaf`: how many of them never read.
[[noreturn]] void be_watchers(const std::string& socket, int count, int deaf) {
  struct Watcher {
    grpc::ClientContext context;
    std::unique_ptr<v1::SchedulerService::Stub> stub;
    std::unique_ptr<grpc::ClientReader<v1::WatchGuestsResponse>> stream;
  };
  std::vector<std::unique_ptr<Watcher>> watchers;
  std::vector<std::thread> readers;
  for (int i = 0; i < count; ++i) {
    auto watcher = std::make_unique<Watcher>();
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    watcher->stub = v1::SchedulerService::NewStub(
        grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments));
    watcher->stream = watcher->stub->WatchGuests(&watcher->context, v1::WatchGuestsRequest());
    if (i >= deaf) {
      readers.emplace_back([stream = watcher->stream.get()] {
        v1::WatchGuestsResponse response;
        while (stream->Read(&response)) {
        }
      });
    }
    watchers.push_back(std::move(watcher));
  }
  while (true) ::pause();
}

/// Connections that say nothing; what the daemon has ended is made again after a second.
[[noreturn]] void be_silent(const std::string& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket.copy(address.sun_path, sizeof address.sun_path - 1);
  std::vector<int> fds(kSilent, -1);
  while (true) {
    for (int& fd : fds) {
      char byte = 0;
      if (fd >= 0 && ::recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0) {
        ::close(fd);
        fd = -1;
      }
      if (fd >= 0) continue;
      fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) continue;
      ::close(fd);
      fd = -1;
    }
    std::this_thread::sleep_for(seconds(1));
  }
}

/// Makes calls of each kind, by its place in kAsked.
class Caller {
 public:
  Caller(const std::string& socket, int guests)
      : guests_(guests),
        stub_(v1::SchedulerService::NewStub(
            grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials()))) {}

  grpc::Status call(std::size_t kind, int number) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + seconds(10));
    switch (kind) {
      case 0: {
        v1::GetGuestRequest request;
        v1::GetGuestResponse response;
        request.set_name(guest_name(number % guests_));
        return stub_->GetGuest(&context, request, &response);
      }
      case 1: {
        v1::GetHostResponse response;
        return stub_->GetHost(&context, v1::GetHostRequest(), &response);
      }
      case 2: {
        v1::ReserveRequest request;
        v1::ReserveResponse response;
        request.set_id(fmt::format("new-{}", number));
        request.set_min_bytes(kMiB);
        request.set_detached(true);
        const auto status = stub_->Reserve(&context, request, &response);
        token_ = response.reservation().token();
        return status;
      }
      default: {
        v1::ReleaseReservationRequest request;
        v1::ReleaseReservationResponse response;
        request.set_id(fmt::format("new-{}", number));
        request.set_token(token_);
        return stub_->ReleaseReservation(&context, request, &response);
      }
    }
  }

 private:
  int guests_;
  std::unique_ptr<v1::SchedulerService::Stub> stub_;
  std::string token_;  ///< of the newest reservation
};

/// Writes how long each call took, in seconds. Reserve and Release belong together: one thread makes them in
/// turn.
[[noreturn]] void be_schedulers(const DaemonPlace& daemon, const Load& load) {
  // What they wait for is the daemon, not a turn among the crowd.
  if (::setpriority(PRIO_PROCESS, 0, -15) != 0) std::perror("crowd_load: the schedulers go before no others");
  const auto run = [&](std::vector<std::size_t> kinds) {
    Caller caller(daemon.socket(), load.guests);
    std::ofstream out(fmt::format("{}/calls-{}", daemon.directory(), kinds.front()));
    const auto between = std::chrono::nanoseconds(1'000'000'000 / kAsked[kinds.front()].rate);
    auto due = Clock::now();
    for (int number = 0;; ++number, due += between) {
      std::this_thread::sleep_until(due);
      for (const std::size_t kind : kinds) {
        const auto begin = Clock::now();
        const grpc::Status status = caller.call(kind, number);
        const double took = std::chrono::duration<double>(Clock::now() - begin).count();
        out << (status.ok() ? kAsked[kind].name : "failed:" + status.error_message()) << ' ' << took
            << std::endl;
      }
    }
  };
  std::thread guest([&] { run({0}); }), host([&] { run({1}); }), wishes([&] { run({2, 3}); });
  while (true) ::pause();
}

std::vector<double> calls_of(const DaemonPlace& daemon, int& failed) {
  std::vector<double> took;
  for (const std::size_t kind : {0U, 1U, 2U}) {
    std::istringstream lines(text_of(fmt::format("{}/calls-{}", daemon.directory(), kind)));
    for (std::string line; std::getline(lines, line);) {
      if (lines.eof()) break;  // it is being written
      if (line.starts_with("failed:") && failed++ == 0) fmt::print(stderr, "crowd_load: {}\n", line);
      took.push_back(std::strtod(line.c_str() + line.rfind(' '), nullptr));
    }
  }
  std::ranges::sort(took);
  return took;
}

/// Decisions that began no later than `bound` allows, and all of them.
struct Decisions {
  double in_time = 0, all = 0, late = 0, cpu = 0;
};
Decisions decisions_of(const std::string& page) {
  const std::string name = "balloon_control_loop_lateness_seconds";
  return {.in_time = value_of(page, fmt::format("{}_bucket{{le=\"{}\"}}", name, kLatenessMax)),
          .all = value_of(page, name + "_count"),
          .late = value_of(page, name + "_sum"),
          .cpu = value_of(page, "process_cpu_seconds_total")};
}

double memory_mb(pid_t process) {
  const std::string status = text_of(fmt::format("/proc/{}/status", process));
  const std::size_t at = status.find("VmHWM:");
  return at == std::string::npos ? 0 : std::strtod(status.c_str() + at + 6, nullptr) * 1024 / 1e6;
}

/// The daemon keeps half of its descriptors for connections. Root may have more than it was given.
void allow_descriptors_for(int guests) {
  const rlim_t wanted = 3 * static_cast<rlim_t>(guests) + 2 * kSilent;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max = std::max(files.rlim_max, wanted);
  if (::setrlimit(RLIMIT_NOFILE, &files) == 0) return;
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

class Run {
 public:
  explicit Run(const Load& load) : load_(load) {}

  int run() {
    start_daemon();
    stay_on(1);
    start_guests(crowd_, place_.socket(), load_.guests, load_.rate);
    require(eventually([this] { return guests() == load_.guests; }, seconds(300)), "all guests connect");
    if (load_.is_crowd()) start_crowd();
    std::this_thread::sleep_for(seconds(10));
    const Decisions begin = decisions_of(place_.page());
    std::this_thread::sleep_for(seconds(load_.seconds));
    const Decisions end = decisions_of(place_.page());
    report(begin, end);
    return missed_ ? 1 : 0;
  }

 private:
  int guests() const { return static_cast<int>(linked_guests(place_)); }
  void require(bool holds, const std::string& what) {
    if (holds) return;
    missed_ = true;
    fmt::print(stderr, "crowd_load: missed: {}\n", what);
  }

  /// Its log goes into a pipe that nobody reads.
  void start_daemon() {
    std::array<int, 2> log{};
    if (::pipe2(log.data(), O_CLOEXEC) != 0) std::_Exit(1);
    unread_ = UniqueFd(log[0]);
    daemon_ = crowd_.start([&] {
      const std::string program = load_.programs + "/balloond", config = place_.config();
      stay_on(0);
      ::dup2(log[1], STDERR_FILENO);
      ::dup2(log[1], STDOUT_FILENO);
      ::execl(program.c_str(), program.c_str(), "--config", config.c_str(), nullptr);
    });
    ::close(log[1]);
    require(place_.answers(), "the daemon starts");
  }

  void start_crowd() {
    for (int i = 0; i < kWatcherProcesses; ++i) {
      crowd_.start(
          [this, i] { be_watchers(place_.socket(), kWatchersOfProcess, i == 0 ? kDeafWatchers : 0); });
    }
    const fs::path watched = place_.directory() + "/watched";
    const pid_t stopped =
        crowd_.start(load_.programs + "/balloonctl", {"--socket", place_.socket(), "watch"}, watched);
    require(eventually([&] { return fs::exists(watched) && fs::file_size(watched) > 0; }, seconds(60)),
            "a watcher sees guests");
    ::kill(stopped, SIGSTOP);
    crowd_.start([this] { be_silent(place_.socket()); });
    crowd_.start([this] { be_schedulers(place_, load_); });
  }

  bool operator_gets_in() const {
    return std::system(
               fmt::format("{}/balloonctl --socket {} host >/dev/null", load_.programs, place_.socket())
                   .c_str()) == 0;
  }
  bool vmm_gets_in() const {
    FakeVmm newcomer(place_.socket(), FakeVmm::guest("newcomer", 64 * kMiB, 64 * kMiB), false);
    return eventually([&] { return newcomer.stats_interval().has_value(); }, seconds(10));
  }

  void report(const Decisions& begin, const Decisions& end) {
    const double decisions = end.all - begin.all;
    const double in_time = decisions > 0 ? (end.in_time - begin.in_time) / decisions : 0;
    const double core = (end.cpu - begin.cpu) / load_.seconds;
    const double memory = memory_mb(daemon_);
    int failed = 0;
    const std::vector<double> calls = calls_of(place_, failed);
    const auto at = [&](double part) {
      return calls.empty() ? 0
                           : calls[static_cast<std::size_t>(part * static_cast<double>(calls.size() - 1))];
    };
    require(guests() == load_.guests, "all guests stay");
    require(operator_gets_in(), "an operator gets in");
    require(vmm_gets_in(), "a new VMM gets in");
    const auto told = Clock::now();
    ::kill(daemon_, SIGTERM);
    siginfo_t ended{};
    require(eventually(
                [&] {
                  return ::waitid(P_PID, static_cast<id_t>(daemon_), &ended, WEXITED | WNOHANG | WNOWAIT) ==
                             0 &&
                         ended.si_pid == daemon_;
                },
                seconds(30)),
            "SIGTERM ends it");
    const double end_took = std::chrono::duration<double>(Clock::now() - told).count();
    require(end_took <= kEndMax, "it ends within 3 s");
    if (load_.is_crowd()) {
      require(in_time >= 0.99, "99 of 100 decisions begin within 50 ms of their time");
      require(!calls.empty() && failed == 0, "every call is answered");
      require(at(0.99) <= kCallMax, "99 of 100 calls are answered within 10 ms");
      require(core <= kCoreMax, "no more than a quarter of a core");
      require(memory <= kMemoryMaxMb, "no more than 150 MB");
    }
    fmt::print(
        "{{\"guests\":{},\"hz\":{},\"seconds\":{},\"decisions\":{},\"within_50_ms\":{:.4f},"
        "\"mean_lateness_ms\":{:.2f},\"calls\":{},\"failed\":{},\"call_ms\":{{\"p50\":{:.2f},"
        "\"p99\":{:.2f},\"max\":{:.2f}}},\"core\":{:.3f},\"memory_mb\":{:.1f},\"end_s\":{:.2f},"
        "\"load_average\":\"{}\"}}\n",
        load_.guests, load_.rate, load_.seconds, decisions, in_time,
        decisions > 0 ? 1e3 * (end.late - begin.late) / decisions : 0, calls.size(), failed, 1e3 * at(0.5),
        1e3 * at(0.99), 1e3 * at(1), core, memory, end_took, text_of("/proc/loadavg").substr(0, 4));
  }

  const Load load_;
  const DaemonPlace place_{"crowd_load", "reservations: {{file: {0}/reservations.json}}\n"};
  Children crowd_;
  UniqueFd unread_;
  pid_t daemon_ = 0;
  bool missed_ = false;
};

}  // namespace
}  // namespace balloon::test

int main(int count, char** arguments) {
  if (count < 2) {
    fmt::print(stderr, "crowd_load PROGRAMS [GUESTS [HZ [SECONDS]]]\n");
    return 2;
  }
  const auto number = [&](int at, double otherwise) {
    return balloon::test::number_of(count, arguments, at, otherwise);
  };
  const int guests = static_cast<int>(number(2, 1000));
  balloon::test::allow_descriptors_for(guests);
  return balloon::test::Run({.programs = arguments[1],
                             .guests = guests,
                             .rate = number(3, 1),
                             .seconds = static_cast<int>(number(4, 60))})
      .run();
}

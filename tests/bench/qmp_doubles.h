// SPDX-License-Identifier: Apache-2.0
// Many QEMUs that are only their QMP sockets: each has a process of its own, as far as a client can tell, and
// all are served by one thread. What they say is what a real one said (QMP_RECORDING).
#pragma once

#include <fmt/format.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"

namespace balloon::test {

class QmpDoubles {
 public:
  static constexpr std::uint64_t kMemory = 64 << 20;

  /// Makes their sockets, DIRECTORY/guest-N.qmp, and their processes, which end with this one.
  QmpDoubles(const std::string& directory, int count) : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    read_recording();
    for (int i = 0; i < count; ++i) {
      UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      const std::string path = fmt::format("{}/guest-{}.qmp", directory, i);
      path.copy(address.sun_path, sizeof(address.sun_path) - 1);
      if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
          !be_owned(listener.get()))
        std::_Exit(1);
      watch(listener.get());
      guests_.emplace(listener.get(), Guest{.name = fmt::format("guest-{}", i)});
      listeners_.push_back(std::move(listener));
    }
  }

  /// Serves them for ever.
  [[noreturn]] void serve() {
    std::array<epoll_event, 64> events;
    while (true) {
      const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        const int fd = events.at(static_cast<std::size_t>(i)).data.fd;
        if (const auto guest = guests_.find(fd); guest != guests_.end()) {
          accept(fd, guest->second);
        } else if (const auto client = clients_.find(fd); client != clients_.end()) {
          listen_to(client->second);
        }
      }
    }
  }

 private:
  struct Guest {
    std::string name;
    std::uint64_t actual = kMemory;
    bool has_client = false;
  };
  struct Client {
    UniqueFd fd;
    int listener = -1;
    std::string rest;
  };

  /// A client takes the process that called listen() for the peer (unix(7), SO_PEERCRED).
  static bool be_owned(int listener) {
    std::array<int, 2> ready;
    if (::pipe(ready.data()) != 0) return false;
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) std::_Exit(1);
      // The guest's memory, mapped as QEMU's is: what a process claims beyond that is not believed.
      ::mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      const bool listens = ::listen(listener, 1) == 0;
      if (::write(ready[1], &listens, 1) != 1) std::_Exit(1);
      while (true) ::pause();
    }
    bool listens = false;
    const bool told = child > 0 && ::read(ready[0], &listens, 1) == 1;
    ::close(ready[0]);
    ::close(ready[1]);
    return told && listens;
  }

  void watch(int fd) const {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  }

  /// One client at a time, as QEMU: the others wait in the socket's queue.
  void accept(int listener, Guest& guest) {
    if (guest.has_client) return;
    UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    guest.has_client = true;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener, nullptr);
    watch(fd.get());
    say(fd.get(), greeting_);
    const int number = fd.get();
    clients_.emplace(number, Client{.fd = std::move(fd), .listener = listener, .rest = {}});
  }

  void listen_to(Client& client) {
    std::array<char, 1 << 14> buffer;
    const ssize_t got = ::recv(client.fd.get(), buffer.data(), buffer.size(), 0);
    if (got <= 0) {
      guests_.at(client.listener).has_client = false;
      watch(client.listener);
      clients_.erase(client.fd.get());
      return;
    }
    client.rest.append(buffer.data(), static_cast<std::size_t>(got));
    std::string answers;
    std::size_t begin = 0;
    for (std::size_t end; (end = client.rest.find('\n', begin)) != std::string::npos; begin = end + 1)
      answers +=
          answer(guests_.at(client.listener), std::string_view(client.rest).substr(begin, end - begin));
    client.rest.erase(0, begin);
    say(client.fd.get(), answers);
  }

  static void say(int fd, const std::string& text) {
    const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0) return;  // the client has gone, which is seen when it is read from
    if (sent != static_cast<ssize_t>(text.size()))
      std::_Exit(1);  // a socket's buffer has room for all answers to what a client asks at once
  }

  static std::string_view value_of(std::string_view line, std::string_view key) {
    const std::size_t at = line.find(fmt::format("\"{}\":", key));
    if (at == std::string_view::npos) return {};
    line.remove_prefix(at + key.size() + 3);
    return line.starts_with('"') ? line.substr(1, line.find('"', 1) - 1)
                                 : line.substr(0, line.find_first_of(",}"));
  }

  std::string answer(Guest& guest, std::string_view line) const {
    const std::string_view command = value_of(line, "execute"), id = value_of(line, "id");
    std::string value = "{}";
    if (command == "balloon") {
      const std::string_view size = value_of(line, "value");
      std::from_chars(size.data(), size.data() + size.size(), guest.actual);
    } else if (command == "query-balloon") {
      value = fmt::format(R"({{"actual":{}}})", guest.actual);
    } else if (command == "query-name") {
      value = fmt::format(R"({{"name":"{}"}})", guest.name);
    } else if (command == "query-uuid") {
      value = R"({"UUID":"00000000-0000-0000-0000-000000000000"})";
    } else if (command == "query-memory-size-summary") {
      value = fmt::format(R"({{"base-memory":{},"plugged-memory":0}})", kMemory);
    } else if (value_of(line, "property") == "guest-stats") {
      const auto now = std::chrono::system_clock::now().time_since_epoch();
      value = fmt::format(
          R"({{"stats":{{"stat-htlb-pgalloc":0,"stat-swap-out":0,"stat-available-memory":{0},"stat-htlb-pgfail":0,)"
          R"("stat-free-memory":{0},"stat-minor-faults":1348,"stat-major-faults":0,"stat-total-memory":{1},)"
          R"("stat-swap-in":0,"stat-disk-caches":2297856}},"last-update":{2}}})",
          guest.actual / 2, guest.actual, std::chrono::duration_cast<std::chrono::seconds>(now).count());
    } else {
      const std::string key =
          fmt::format("{} {}{}", command, value_of(line, "path"), value_of(line, "property"));
      if (const auto known = recorded_.find(key); known != recorded_.end()) value = known->second;
    }
    return fmt::format("{{\"return\": {}, \"id\": {}}}\r\n", value, id);
  }

  /// Of each command the last answer before the guest was told to do anything.
  void read_recording() {
    std::ifstream file(QMP_RECORDING);
    nlohmann::json asked;
    for (std::string line; std::getline(file, line) && !line.starts_with("# target");) {
      if (line.starts_with("< {\"QMP\"")) greeting_ = line.substr(2) + "\r\n";
      if (line.starts_with("> ")) asked = nlohmann::json::parse(line.substr(2));
      if (!line.starts_with("< {\"return\"")) continue;
      const nlohmann::json arguments = asked.value("arguments", nlohmann::json::object());
      recorded_[fmt::format("{} {}{}", asked.at("execute").get<std::string>(), arguments.value("path", ""),
                            arguments.value("property", ""))] =
          nlohmann::json::parse(line.substr(2)).at("return").dump();
    }
    recorded_["query-cpus-fast "] = "[{},{}]";
    recorded_["qom-list /objects"] = "[]";
    if (greeting_.empty()) std::_Exit(1);
  }

  UniqueFd epoll_;
  std::vector<UniqueFd> listeners_;
  std::unordered_map<int, Guest> guests_;    ///< by listener
  std::unordered_map<int, Client> clients_;  ///< by connection
  std::string greeting_;
  std::map<std::string, std::string> recorded_;  ///< by command, path and property
};

}  // namespace balloon::test

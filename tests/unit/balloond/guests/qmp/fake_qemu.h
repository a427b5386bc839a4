// SPDX-License-Identifier: Apache-2.0
// A QEMU behind a socket. It does nothing but when a test lets it, and never waits.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/unit/balloond/guests/qmp/recording.h"

namespace balloon::daemon::qmp {

class FakeQemu {
 public:
  using json = nlohmann::json;

  /// `another_process`: it never listens as this one.
  explicit FakeQemu(const std::string& path, bool another_process = false)
      : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    ::unlink(path.c_str());
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    if (another_process)
      be_another_process();
    else
      EXPECT_EQ(::listen(listener_.get(), 1), 0);
  }

  /// Greets who has come, if there is somebody; and answers what was asked. Returns whether it said
  /// something.
  bool serve() { return greet() || answer(); }
  bool greet() {
    const int client = ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK);
    if (client < 0) return false;
    client_ = UniqueFd(client);
    unread_.clear();
    ++greeted;
    say({{"QMP",
          {{"version", {{"qemu", {{"major", 7}, {"minor", 2}, {"micro", 22}}}}},
           {"capabilities", json::array()}}}});
    return true;
  }
  bool answer(int at_most = 1000) {
    read();
    bool said = false;
    for (auto end = unread_.find('\n'); end != std::string::npos && at_most > 0; end = unread_.find('\n')) {
      --at_most;
      const json command = json::parse(unread_.substr(0, end));
      if (name_of(command) == hangs_at) break;
      unread_.erase(0, end + 1);
      asked.push_back(name_of(command));
      say(answer_to(command, asked.back()));
      said = true;
    }
    return said;
  }
  /// Takes what was sent, to be answered later.
  void read() {
    char buffer[4096];
    ssize_t got = 0;
    while (client_.get() >= 0 && (got = ::recv(client_.get(), buffer, sizeof buffer, MSG_DONTWAIT)) > 0)
      unread_.append(buffer, static_cast<std::size_t>(got));
  }
  /// Is said to nobody when the client has gone meanwhile.
  void say(const json& message) {
    const std::string line = message.dump() + "\r\n";
    const ssize_t sent = ::send(client_.get(), line.data(), line.size(), MSG_NOSIGNAL);
    EXPECT_TRUE(sent == static_cast<ssize_t>(line.size()) || errno == EPIPE || errno == ECONNRESET);
  }
  void happen(const char* event, json data = json::object()) {
    say({{"event", event}, {"data", std::move(data)}, {"timestamp", {{"seconds", 1}, {"microseconds", 2}}}});
  }
  void hang_up() { client_.reset(); }
  /// Others wait for it, as many as can.
  void be_crowded() {
    sockaddr_un address{};
    socklen_t size = sizeof(address);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    do {
      others_.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    } while (::connect(others_.back().get(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
  }
  /// Whether who came is still there.
  bool has_client() const {
    pollfd polled{.fd = client_.get(), .events = 0, .revents = 0};
    return client_.get() >= 0 && ::poll(&polled, 1, 0) == 0;
  }
  /// From now on another process listens, as after a restart of QEMU.
  void be_another_process() {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(::listen(listener_.get(), 1));
    ::waitpid(child, nullptr, 0);
  }
  /// How often it was asked so, and forgets it.
  std::ptrdiff_t times_asked(const std::string& what) {
    const auto times = std::ranges::count(asked, what);
    std::erase(asked, what);
    return times;
  }

  /// To be polled: when one is readable, serve() has something to do.
  int listener_fd() const { return listener_.get(); }
  int client_fd() const { return client_.get(); }

  /// A guest of 512 MiB whose driver is up, by the name that name_of() gives each command.
  std::map<std::string, json> answers{
      {"query-name", {{"name", "web"}}},
      {"query-uuid", {{"UUID", "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31"}}},
      {"query-cpus-fast", json::array({json::object(), json::object()})},
      {"query-memory-size-summary", {{"base-memory", 512 << 20}}},
      {"qom-list /machine/peripheral",
       json::array({{{"name", "balloon0"}, {"type", "child<virtio-balloon-pci>"}}})},
      {"qom-list /machine/peripheral-anon", json::array()},
      {"qom-list /machine/unattached", json::array()},
      {"qom-list /objects", json::array()},
      {"query-balloon", {{"actual", 512 << 20}}},
      {"qom-get guest-stats", statistics(1'700'001'000, 200 << 20)},
      {"qom-get guest-stats-polling-interval", 0U},
      {"x-query-virtio-status", recorded("driver up", "x-query-virtio-status")},
      {"query-status", {{"status", "running"}, {"running", true}}},
      {"query-migrate", json::object()},
      {"query-jobs", json::array()},
      {"query-blockstats", json::array({{{"stats", {{"rd_bytes", 4096}}}}})},
      {"qom-set", json::object()},
      {"balloon", json::object()},
  };
  /// What it answers with an error, and its description.
  std::map<std::string, std::string> refusals;
  std::string hangs_at;  ///< it answers nothing any more when it is asked this
  std::vector<std::string> asked;
  std::vector<json> arguments;  ///< of commands that set something
  int greeted = 0;

  static json statistics(std::uint64_t updated_at, std::uint64_t available) {
    return {{"last-update", updated_at},
            {"stats", {{"stat-available-memory", available}, {"stat-free-memory", available}}}};
  }

 private:
  static std::string name_of(const json& command) {
    std::string name = command.at("execute");
    if (name == "qom-list") name += " " + command.at("arguments").at("path").get<std::string>();
    if (name == "qom-get") name += " " + command.at("arguments").at("property").get<std::string>();
    return name;
  }
  json answer_to(const json& command, const std::string& name) {
    if (name == "qom-set" || name == "balloon") arguments.push_back(command.at("arguments"));
    if (const auto refusal = refusals.find(name); refusal != refusals.end())
      return {{"id", command.at("id")}, {"error", {{"class", "GenericError"}, {"desc", refusal->second}}}};
    const auto answer = answers.find(name);
    return {{"id", command.at("id")}, {"return", answer == answers.end() ? json::object() : answer->second}};
  }
  UniqueFd listener_;
  UniqueFd client_;
  std::vector<UniqueFd> others_;
  std::string unread_;
};

}  // namespace balloon::daemon::qmp

// SPDX-License-Identifier: Apache-2.0
// The monitor's socket: several clients at a time (QEMU has one a socket, and each tool wants its own), each
// with a session of its own; events go to all of them.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/event_loop.h"
#include "vmm/monitor/command_thread.h"
#include "vmm/monitor/guest.h"
#include "vmm/monitor/json_frames.h"
#include "vmm/monitor/qmp.h"

namespace balloon::vmm {

class Monitor {
 public:
  /// Of more, one that has not asked for anything yet ends; when there is none, who comes is refused.
  static constexpr std::size_t kMaxClients = 8;
  /// What a client may leave unread before it is hung up on: thousands of answers.
  static constexpr std::size_t kMaxUnsent = std::size_t{1} << 20;
  /// QEMU sends BALLOON_CHANGE at most once a second, the last value never lost (monitor/monitor.c).
  static constexpr std::chrono::milliseconds kBalloonEventInterval{1000};

  /// Listens at `path`, on a thread of its own. `guest` must outlive it.
  static Result<std::unique_ptr<Monitor>> start(const std::string& path, MonitorGuest& guest);
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

 private:
  struct Client {
    explicit Client(UniqueFd client_fd, QmpState& state) : fd(std::move(client_fd)), session(state) {}
    UniqueFd fd;
    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
    QmpSession session;
    JsonFrames frames;
    std::string unsent;
    bool closing = false;  ///< once `unsent` is sent
    bool busy = false;     ///< a command of this client is under way on the other thread
    bool unwatched = false;
    /// What came with it: answers come in the order of the requests.
    std::deque<std::string> requests{};
  };
  /// Of a command that was done on the other thread.
  struct Answer {
    std::weak_ptr<Client> client;
    std::string text;
  };

  Monitor(std::string path, MonitorGuest& guest) : path_(std::move(path)), state_{guest} {}
  Result<void> open();
  void post(const MonitorEvent& event);

  // On the loop's thread.
  void on_connect();
  /// Of those that have not asked for anything yet, the one that came first: false when there is none.
  bool end_a_silent_one();
  void on_readable(int fd);
  void take(const std::shared_ptr<Client>& client, std::string_view request);
  void on_events();
  void deliver(const Answer& answer);
  void on_flush_timer();
  void on_balloon_timer();
  // What these add to clients' `unsent` flush_all() sends.
  void queue_events();
  void queue_balloon_change();
  void broadcast(const MonitorEvent& event);
  void send(Client& client, std::string_view text);
  /// Sends what the socket takes; false: the client is gone.
  bool flush(Client& client);
  /// Sends to all, and drops the clients that are gone.
  void flush_all();
  void drop(int fd);

  const std::string path_;
  QmpState state_;
  UniqueFd listener_;
  std::map<int, std::shared_ptr<Client>> clients_;
  Mutex events_mutex_;  ///< what it guards comes from any thread
  std::deque<Answer> answers_ GUARDED_BY(events_mutex_);
  std::deque<MonitorEvent> events_ GUARDED_BY(events_mutex_);
  std::optional<MonitorEvent> balloon_change_ GUARDED_BY(events_mutex_);
  std::chrono::steady_clock::time_point last_balloon_event_{};
  UniqueFd events_ready_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<EventLoop::Timer> flush_timer_;
  std::unique_ptr<EventLoop::Timer> balloon_timer_;
  std::unique_ptr<CommandThread> commands_ = std::make_unique<CommandThread>();
};

}  // namespace balloon::vmm

// SPDX-License-Identifier: Apache-2.0
// One connection to a QMP server, apart from its socket: greeting, negotiation, then commands whose answers
// come in order, with events in between. Pure: bytes and the time go in, bytes and news come out.
#pragma once

#include <chrono>
#include <deque>
#include <expected>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "balloond/clock.h"
#include "balloond/guests/qmp/line_reader.h"
#include "balloond/guests/qmp/message.h"

namespace balloon::daemon::qmp {

/// QEMU greets as soon as it accepts, and accepts one client at a time: without a greeting for this long,
/// another client has the socket.
inline constexpr std::chrono::nanoseconds kGreetingWait = std::chrono::seconds(1);
/// QEMU answers in its main loop, in well under a millisecond when that is free. It is busy for seconds when
/// a snapshot is written or the host is short of memory.
inline constexpr std::chrono::nanoseconds kAnswerWait = std::chrono::seconds(5);

/// What is asked of a guest's QEMU.
enum class Question : std::uint8_t {
  capabilities,
  name,
  uuid,
  cpus,
  memory_size,
  list_peripheral,
  list_peripheral_anon,
  list_unattached,
  list_objects,
  run_state,
  migration,
  jobs,
  balloon_size,
  statistics,
  polling_interval,
  set_polling_interval,
  driver,
  disk_reads,
  set_target,
};

struct Command {
  Question question = Question::capabilities;
  std::string name;
  nlohmann::json arguments = nlohmann::json::object();
};

struct Answer {
  Question question = Question::capabilities;
  std::expected<nlohmann::json, Failure> value;
};

/// In the order in which the server said it.
using News = std::variant<Answer, Event>;

class Session {
 public:
  explicit Session(Time connected) : waiting_since_(connected) {}

  /// Queues a command, for when negotiation is done.
  void ask(const Command& command, Time now);
  /// What is to be written now.
  std::string take_output();
  /// Fails for good when the server does not speak QMP.
  Result<std::vector<News>> receive(std::string_view bytes, Time now);

  /// The server greeted: it is not busy with another client.
  bool greeted() const { return greeted_; }
  /// Nothing is queued, and no answer is awaited.
  bool idle() const { return greeted_ && awaited_.empty() && queue_.empty(); }
  const std::string& version() const { return version_; }
  /// When check() fails, unless something is received before.
  std::optional<Time> deadline() const;
  /// Fails when what is awaited has not come in time.
  Result<void> check(Time now) const;

 private:
  struct Awaited {
    std::uint64_t id = 0;
    Question question = Question::capabilities;
    std::string name;
  };
  Result<void> take(Message message, std::vector<News>& news, Time now);
  Result<void> take_answer(std::optional<std::uint64_t> id, std::expected<nlohmann::json, Failure> value,
                           std::vector<News>& news, Time now);
  void send(const Command& command, Time now);

  LineReader lines_;
  std::deque<Command> queue_;
  std::deque<Awaited> awaited_;  ///< sent, in order
  std::string output_;
  std::string version_;
  std::uint64_t last_id_ = 0;
  bool greeted_ = false;
  bool negotiated_ = false;
  Time waiting_since_;  ///< for the greeting, or for the first of awaited_
};

}  // namespace balloon::daemon::qmp

// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/session.h"

#include <fmt/format.h>

#include <utility>

namespace balloon::daemon::qmp {
namespace {

template <typename... Kinds>
struct Overloaded : Kinds... {
  using Kinds::operator()...;
};

}  // namespace

void Session::ask(const Command& command, Time now) {
  if (negotiated_) return send(command, now);
  queue_.push_back(command);
}

void Session::send(const Command& command, Time now) {
  if (awaited_.empty()) waiting_since_ = now;
  awaited_.push_back({.id = ++last_id_, .question = command.question, .name = command.name});
  output_ += command_line(command.name, command.arguments, last_id_);
}

std::string Session::take_output() { return std::exchange(output_, {}); }

Result<std::vector<News>> Session::receive(std::string_view bytes, Time now) {
  auto lines = lines_.feed(bytes);
  if (!lines) return std::unexpected(lines.error());
  std::vector<News> news;
  for (const std::string& line : *lines) {
    auto message = parse_message(line);
    if (!message) return std::unexpected(message.error());
    BALLOON_TRY(take(std::move(*message), news, now));
  }
  return news;
}

Result<void> Session::take(Message message, std::vector<News>& news, Time now) {
  return std::visit(
      Overloaded{
          [&](Greeting& greeting) -> Result<void> {
            if (std::exchange(greeted_, true)) return fail("it greets twice");
            version_ = std::move(greeting.version);
            send({.question = Question::capabilities, .name = "qmp_capabilities", .arguments = {}}, now);
            return {};
          },
          [&](Return& done) { return take_answer(done.id, std::move(done.value), news, now); },
          [&](Failure& failure) {
            const auto id = failure.id;
            return take_answer(id, std::unexpected(std::move(failure)), news, now);
          },
          [&](Event& event) -> Result<void> {
            if (!greeted_) return fail("an event comes before the greeting");
            news.emplace_back(std::move(event));
            return {};
          },
      },
      message);
}

Result<void> Session::take_answer(std::optional<std::uint64_t> id,
                                  std::expected<nlohmann::json, Failure> value, std::vector<News>& news,
                                  Time now) {
  if (!id && !value) return fail(fmt::format("it could not read a command: {}", value.error().description));
  if (!id || awaited_.empty() || awaited_.front().id != *id) return fail("it answers what was not asked");
  const Awaited asked = std::move(awaited_.front());
  awaited_.pop_front();
  waiting_since_ = now;  // events are no sign that answers will come
  if (asked.question != Question::capabilities) {
    news.emplace_back(Answer{.question = asked.question, .value = std::move(value)});
    return {};
  }
  if (!value) return fail(fmt::format("negotiation: {}", value.error().description));
  negotiated_ = true;
  for (const Command& command : std::exchange(queue_, {})) send(command, now);
  return {};
}

std::optional<Time> Session::deadline() const {
  if (!greeted_) return waiting_since_ + kGreetingWait;
  if (awaited_.empty()) return std::nullopt;
  return waiting_since_ + kAnswerWait;
}

Result<void> Session::check(Time now) const {
  const auto due = deadline();
  if (!due || now < *due) return {};
  if (!greeted_) return fail("another client has the socket: no greeting within 1 s");
  return fail(fmt::format("no answer to {} within {} s{}", awaited_.front().name,
                          std::chrono::duration_cast<std::chrono::seconds>(kAnswerWait).count(),
                          lines_.in_line() ? ", only half a line" : ""));
}

}  // namespace balloon::daemon::qmp

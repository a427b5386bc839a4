// SPDX-License-Identifier: Apache-2.0
// Keeps what a backend tells the daemon.
#pragma once

#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "balloond/guests/backend.h"

namespace balloon::daemon::test {

class Told final : public GuestEvents {
 public:
  std::expected<Session, JoinRefusal> joined(const Registration& registration, const Peer& who,
                                             std::shared_ptr<GuestChannel> guest_channel) override {
    asked_for.push_back(registration.name);
    if (refusal) return std::unexpected(*refusal);
    if (taken == registration.name)
      return std::unexpected(JoinRefusal{.kind = JoinRefusal::Kind::already_exists, .reason = "it is taken"});
    guests.push_back(registration);
    peer = who;
    balloon_now = *registration.balloon;
    channel = std::move(guest_channel);
    return guests.size();
  }
  void stats(Session, const StatsSample& stats) override { samples.push_back(stats); }
  void balloon(Session, const BalloonState& balloon) override {
    ++balloons;
    balloon_now = balloon;
  }
  void counters(Session, const BalloonCounters& counters) override { counted = counters; }
  void answered(Session, Request::Kind kind, std::uint64_t sequence, const std::string& refused) override {
    answered_kind = kind;
    answered_sequence = sequence;
    answers.push_back(refused);
  }
  void left(Session session) override {
    ++leavings;
    last_left = session;
  }

  std::optional<JoinRefusal> refusal;  ///< for all guests
  std::string taken;                   ///< a name that another guest has
  std::vector<std::string> asked_for;  ///< names, granted or not
  std::vector<Registration> guests;
  Peer peer;                              ///< of the newest
  std::shared_ptr<GuestChannel> channel;  ///< to the newest
  BalloonState balloon_now;
  int balloons = 0;  ///< how often it was told of one
  std::vector<StatsSample> samples;
  std::optional<BalloonCounters> counted;
  std::vector<std::string> answers;  ///< refusals; empty ones of what was done
  Request::Kind answered_kind = Request::Kind::target;
  std::uint64_t answered_sequence = 0;
  int leavings = 0;
  Session last_left = 0;
};

}  // namespace balloon::daemon::test

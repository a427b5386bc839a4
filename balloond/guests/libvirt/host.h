// SPDX-License-Identifier: Apache-2.0
// One libvirtd and its domains. It never waits: calls are made by callers, and what they bring is read from
// an inbox. One that takes too long is given up, and another connection takes its place.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "balloond/guests/libvirt/caller.h"
#include "balloond/guests/libvirt/domain.h"
#include "balloond/guests/libvirt/inbox.h"

namespace balloon::daemon::libvirt {

class Host {
 public:
  Host(const Surroundings& surroundings, std::string uri);
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  const std::string& uri() const { return uri_; }
  /// The newest look at its domains has worked; or has failed. Neither before the first.
  bool connected() const { return looked_ && complaint_.empty(); }
  bool failing() const { return !complaint_.empty(); }
  /// When run() has something to do, unless news come before.
  Time due() const;
  void run();

 private:
  /// A thread and the connection that it uses.
  struct Line {
    std::unique_ptr<Caller> caller;
    std::shared_ptr<std::unique_ptr<Link>> link;
    Time begun{};
    std::optional<Errand> errand{};  ///< under way
    bool stuck = false;              ///< given up, and nothing could take its place
  };

  Line open_line() const;
  void close(Line& line) const;
  /// Its call has taken too long: a new one takes its place.
  void give_up(Line& line);
  void begin_look();
  void begin_errands();
  void take(const Look& look);
  void take(const ErrandDone& done);
  void tell(const Errand& errand, const std::string& refusal);
  void take(const Link::Event& event);
  void check_time();
  void failed(const std::string& complaint);

  const Surroundings& surroundings_;
  const std::string uri_;
  const log::Source source_;
  std::shared_ptr<Inbox> inbox_;
  Line looker_;
  std::vector<Line> hands_;
  std::vector<std::weak_ptr<void>> given_up_;
  std::map<std::string, std::unique_ptr<Domain>> domains_;  ///< by UUID
  std::uint64_t look_ = 0;                                  ///< number of the newest
  bool looking_ = false;                                    ///< it is under way
  bool looked_ = false;                                     ///< at least once
  std::uint64_t errands_ = 0;
  Time due_;
  Time jobs_looked_at_{};
  std::chrono::nanoseconds retry_;
  std::string complaint_;  ///< for as long as it holds
  std::string lack_;       ///< what it does not know, as logged
};

}  // namespace balloon::daemon::libvirt

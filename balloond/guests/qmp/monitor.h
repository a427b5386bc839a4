// SPDX-License-Identifier: Apache-2.0
// One QMP socket and the guest behind it: connects, asks, tells the daemon, over and over. A socket of our
// own (exclusive) stays connected; a shared one is taken for a moment each time. The backend's one thread
// runs them all.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "balloond/guests/backend.h"
#include "balloond/guests/backend_counters.h"
#include "balloond/guests/mailbox.h"
#include "balloond/guests/our_target.h"
#include "balloond/guests/qmp/dialogue.h"
#include "balloond/guests/qmp/discovery.h"
#include "balloond/guests/qmp/pace.h"
#include "balloond/guests/qmp/session.h"
#include "balloond/guests/qmp/socket.h"
#include "base/log.h"

namespace balloon::daemon::qmp {

/// What monitors share.
struct Surroundings {
  const Clock& clock;
  GuestEvents& guests;
  /// Wakes the backend's thread to look into mailboxes; any thread.
  std::function<void()> wake;
  /// Whether another socket's guest runs in that process.
  std::function<bool(pid_t pid, const std::string& except)> is_managed;
  BackendHealth& health;
  std::chrono::nanoseconds stats_interval;  ///< as configured, for guests to come
};

class Monitor {
 public:
  Monitor(const Surroundings& surroundings, std::string path, Use use);
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  const std::string& path() const { return path_; }
  const Use& use() const { return use_; }
  /// Of the open connection; -1 while there is none.
  int fd() const { return connection_ ? connection_->fd.get() : -1; }
  /// There is something left to be written.
  bool wants_write() const { return !output_.empty(); }
  /// Process of the guest that has joined; 0: none.
  pid_t guest_pid() const { return guest_ ? peer_.pid : 0; }
  bool has_guest() const { return guest_.has_value(); }
  /// The newest attempt to reach its QEMU has failed.
  bool failing() const { return !complaint_.empty(); }
  /// When on_time() is to be called.
  Time due() const;

  void on_time();
  void on_readable();
  void on_writable() { write(); }
  void on_mail();
  /// The socket's file is new: it is tried at once.
  void on_new_socket();

 private:
  enum class Stage : std::uint8_t { identity, figures, corrections, rest };
  struct Sent {
    std::uint64_t sequence = 0;
    Bytes target{};
  };

  void open();
  void next_stage();
  void look_at_process();
  void ask(const std::vector<Command>& commands);
  void take(const News& news);
  void take_target_answer(const Answer& answer);
  void report();
  void join();
  void add_limits(const std::string& stem, Registration& registration) const;
  void report_sample(Bytes actual, bool moved);
  void note_other_hands(Bytes actual);
  void send_target();
  void refuse_target(const std::string& reason);
  void write();
  /// Ends the connection. `guest_is_gone`: and the guest's stay.
  void close(bool guest_is_gone);
  void leave();
  void end_stay();
  void failed(const std::string& complaint, bool guest_is_gone);
  void complain(const std::string& complaint);
  bool hurried(Time now) const;
  void schedule_next();
  std::chrono::seconds polling_interval() const;

  const Surroundings& surroundings_;
  const std::string path_;
  const Use use_;
  const bool exclusive_;
  const log::Source source_;

  std::optional<Connection> connection_;
  std::optional<Session> session_;  ///< of the connection
  std::string output_;              ///< for the connection
  Stage stage_ = Stage::rest;
  std::optional<Time> give_back_at_;  ///< a shared socket
  bool asks_all_ = true;              ///< in this round, what seldom changes, too
  Time asked_all_at_{};
  bool asked_figures_ = false;  ///< in this connection

  Peer peer_;
  std::optional<Dialogue> dialogue_;  ///< with the process peer_
  std::optional<daemon::Session> guest_;
  std::shared_ptr<Mailbox> mailbox_;
  BalloonState told_;  ///< the newest that the daemon was told
  Bytes joined_memory_{};
  OurTarget ours_;
  Time asked_at_{};  ///< for the target
  std::uint64_t sizes_when_asked_ = 0;
  std::optional<Request> waiting_;  ///< a target of guest_ that is not on its way yet
  Time waiting_since_{};
  std::deque<Sent> sent_;  ///< targets without an answer
  Movement movement_;
  std::optional<std::chrono::seconds> sampled_;  ///< time of the newest statistics seen
  std::optional<Bytes> available_;               ///< by them
  Time figures_asked_at_{};
  std::chrono::nanoseconds stats_took_{};  ///< from asking for figures to the statistics among them
  bool lively_ = false;
  std::optional<Time> hurry_until_;

  std::chrono::nanoseconds stats_interval_;
  Time taken_at_{};  ///< when the socket was last connected to
  Time due_{};
  std::chrono::nanoseconds retry_ = kRetryFirst;
  std::string complaint_;    ///< the newest, for as long as it holds
  bool complained_ = false;  ///< in this round
};

}  // namespace balloon::daemon::qmp

#include "balloond/api/watch.h"

#include "balloond/api/convert.h"

namespace balloon::daemon {
namespace {

class Watch final : public grpc::ServerWriteReactor<v1::WatchGuestsResponse>, public StateStore::Reader {
 public:
  explicit Watch(StateStore& states) : states_(states) {}

  void start(const std::shared_ptr<Watch>& self) {
    self_ = self;
    states_.subscribe(self);
    state_changed();
  }

  void state_changed() override {
    const std::lock_guard lock(mutex_);
    send_next();
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    cancelled_ |= !ok;
    send_next();
  }

  void OnCancel() override {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    send_next();
  }

  void OnDone() override {
    // Whoever called Finish has let go of the lock before this object may go.
    {
      const std::lock_guard lock(mutex_);
    }
    self_.reset();
  }

 private:
  /// Sends the newest state unless the reader has it already or is still taking one. Called with mutex_ held.
  void send_next() {
    if (writing_ || finished_) return;
    if (cancelled_) {
      finished_ = true;
      return Finish(grpc::Status::CANCELLED);
    }
    const auto state = states_.newest();
    if (state->revision <= sent_) return;
    sent_ = state->revision;
    response_.Clear();
    response_.set_revision(state->revision);
    for (const GuestStatus& guest : state->guests) *response_.add_guests() = to_proto(guest, *state);
    *response_.mutable_host() = host_to_proto(*state);
    writing_ = true;
    StartWrite(&response_);
  }

  StateStore& states_;
  std::shared_ptr<Watch> self_;
  std::mutex mutex_;  ///< guards all below
  bool writing_ = false;
  bool cancelled_ = false;
  bool finished_ = false;
  std::uint64_t sent_ = 0;
  v1::WatchGuestsResponse response_;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchGuestsResponse>* watch_guests(StateStore& states) {
  const auto watch = std::make_shared<Watch>(states);
  watch->start(watch);
  return watch.get();
}

}  // namespace balloon::daemon

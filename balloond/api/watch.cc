#include "balloond/api/watch.h"

#include "balloond/api/convert.h"
#include "balloond/api/newest_stream.h"

namespace balloon::daemon {
namespace {

class Watch final : public NewestStream<v1::WatchGuestsResponse>, public StateStore::Reader {
 public:
  explicit Watch(StateStore& states) : states_(states) {}

  void state_changed() override { changed(); }

 protected:
  bool next(v1::WatchGuestsResponse& response) override {
    const auto state = states_.newest();
    if (state->revision <= sent_) return false;
    sent_ = state->revision;
    response.Clear();
    response.set_revision(state->revision);
    for (const GuestStatus& guest : state->guests) *response.add_guests() = to_proto(guest, *state);
    *response.mutable_host() = host_to_proto(*state);
    return true;
  }

 private:
  StateStore& states_;
  std::uint64_t sent_ = 0;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchGuestsResponse>* watch_guests(StateStore& states) {
  const auto watch = std::make_shared<Watch>(states);
  states.subscribe(watch);
  watch->start(watch);
  return watch.get();
}

}  // namespace balloon::daemon

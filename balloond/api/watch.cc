// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/watch.h"

#include <algorithm>
#include <utility>

#include "balloon/v1/scheduler.pb.h"
#include "balloond/api/convert.h"
#include "balloond/api/newest_stream.h"

namespace balloon::daemon {

class Watch final : public NewestStream<grpc::ByteBuffer> {
 public:
  Watch(std::shared_ptr<Watchers::Newest> newest, std::uint64_t after)
      : newest_(std::move(newest)), sent_(after) {}

 protected:
  bool next(grpc::ByteBuffer& message) override {
    const MutexLock lock(newest_->mutex);
    if (newest_->revision <= sent_) return false;
    sent_ = newest_->revision;
    message = newest_->message;  // shares its bytes
    return true;
  }

 private:
  const std::shared_ptr<Watchers::Newest> newest_;
  std::uint64_t sent_;
};

namespace {

/// A stream that ends as it begins.
class Refused final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit Refused(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

grpc::ByteBuffer message_of(const State& state, const std::string& epoch) {
  v1::WatchGuestsResponse response;
  response.set_epoch(epoch);
  response.set_revision(state.revision);
  for (const GuestStatus& guest : state.guests) *response.add_guests() = to_proto(guest, state);
  *response.mutable_host() = host_to_proto(state);
  const grpc::Slice bytes(response.SerializeAsString());
  return {&bytes, 1};
}

}  // namespace

Watchers::Watchers(const StateStore& states) : states_(states), thread_([this] { run(); }) {}

Watchers::~Watchers() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wakeup_.notify_all();
  thread_.join();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* Watchers::refuse(const grpc::Status& status) {
  return new Refused(status);
}

void Watchers::state_changed() {
  const MutexLock lock(mutex_);
  wanted_ = true;
  wakeup_.notify_all();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* Watchers::add(pid_t process, std::uint64_t after) {
  renew();  // while nobody watched, nothing was
  std::shared_ptr<Watch> watch;
  {
    const MutexLock lock(mutex_);
    std::erase_if(known_, [](const Known& each) { return each.watch.expired(); });
    const auto same = std::ranges::count(known_, process, &Known::process);
    if (known_.size() >= kMost || same >= static_cast<std::ptrdiff_t>(kMostOfProcess)) {
      return refuse(
          {grpc::StatusCode::RESOURCE_EXHAUSTED, "there are too many watchers: end some, or share one"});
    }
    watch = std::make_shared<Watch>(newest_, after);
    known_.push_back({watch, process});
    wanted_ = true;
  }
  watch->start(watch);
  wakeup_.notify_all();
  return watch.get();
}

void Watchers::run() {
  UniqueLock lock(mutex_);
  while (true) {
    wakeup_.wait(lock.standard(), [this]() REQUIRES(mutex_) { return wanted_ || stopping_; });
    if (stopping_) return;
    wanted_ = false;
    std::erase_if(known_, [](const Known& each) { return each.watch.expired(); });
    std::vector<std::shared_ptr<Watch>> alive;
    for (const Known& each : known_) {
      if (auto watch = each.watch.lock()) alive.push_back(std::move(watch));
    }
    lock.unlock();
    if (!alive.empty() && renew()) {
      for (const auto& watch : alive) watch->changed();
    }
    alive.clear();  // a stream may end with its last reference: not while the lock is held
    lock.lock();
    wakeup_.wait_for(lock.standard(), kGap, [this]() REQUIRES(mutex_) { return stopping_; });
  }
}

bool Watchers::renew() {
  const auto state = states_.newest();
  {
    const MutexLock lock(newest_->mutex);
    if (newest_->revision >= state->revision) return false;
  }
  grpc::ByteBuffer message = message_of(*state, states_.epoch());
  const MutexLock lock(newest_->mutex);
  if (newest_->revision >= state->revision) return false;
  newest_->message.Swap(&message);
  newest_->revision = state->revision;
  return true;
}

}  // namespace balloon::daemon

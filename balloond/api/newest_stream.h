// SPDX-License-Identifier: Apache-2.0
// A server stream that sends the newest of something: readers who are slow miss what was replaced meanwhile,
// and hold nobody up.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "base/mutex.h"

namespace balloon::daemon {

template <typename Response>
class NewestStream : public grpc::ServerWriteReactor<Response> {
 public:
  /// The stream owns itself until OnDone.
  void start(std::shared_ptr<NewestStream> self) {
    self_ = std::move(self);
    changed();
  }

  /// There may be something newer. From any thread.
  void changed() {
    const MutexLock lock(mutex_);
    send_next();
  }

  void OnWriteDone(bool ok) override {
    const MutexLock lock(mutex_);
    writing_ = false;
    cancelled_ |= !ok;
    send_next();
  }

  void OnCancel() override {
    const MutexLock lock(mutex_);
    cancelled_ = true;
    send_next();
  }

  void OnDone() override {
    // Whoever called Finish has let go of the lock before this object may go.
    {
      const MutexLock lock(mutex_);
    }
    self_.reset();
  }

 protected:
  /// Puts the newest into `response`, whatever it held; false when the reader has that already. Never called
  /// by two threads at once.
  virtual bool next(Response& response) = 0;

 private:
  void send_next() REQUIRES(mutex_) {
    if (writing_ || finished_) return;
    if (cancelled_) {
      finished_ = true;
      return this->Finish(grpc::Status::CANCELLED);
    }
    if (!next(response_)) return;
    writing_ = true;
    this->StartWrite(&response_);
  }

  std::shared_ptr<NewestStream> self_;
  Mutex mutex_;
  bool writing_ GUARDED_BY(mutex_) = false;
  bool cancelled_ GUARDED_BY(mutex_) = false;
  bool finished_ GUARDED_BY(mutex_) = false;
  Response response_ GUARDED_BY(mutex_);
};

}  // namespace balloon::daemon

// SPDX-License-Identifier: Apache-2.0
// The streams of WatchGuests. Each state is made into a message once, by a thread of its own, and all
// watchers are sent that message: the control thread says that there is a newer state and goes on, however
// many watch, and however slowly they read.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>
#include <sys/types.h>

#include <condition_variable>
#include <memory>
#include <thread>
#include <vector>

#include "balloond/control/state.h"
#include "base/mutex.h"

namespace balloon::daemon {

class Watch;

class Watchers final : public StateStore::Reader {
 public:
  explicit Watchers(const StateStore& states);
  ~Watchers() override;
  Watchers(const Watchers&) = delete;
  Watchers& operator=(const Watchers&) = delete;

  /// A stream for `process` that sends the newest state, and each newer one as fast as its reader takes them,
  /// but none up to the revision `after`, which its reader has. It owns itself. Refused when there are too
  /// many.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* add(pid_t process, std::uint64_t after = 0);
  /// A stream that ends as it begins.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* refuse(const grpc::Status& status);
  void state_changed() override;

  /// Each has a message in its socket and another one waiting.
  static constexpr std::size_t kMost = 1024;
  static constexpr std::size_t kMostOfProcess = 64;
  /// Of states that come faster, some are left out.
  static constexpr std::chrono::milliseconds kGap{50};

  /// The newest message, shared by all streams.
  struct Newest {
    Mutex mutex;
    std::uint64_t revision GUARDED_BY(mutex) = 0;
    grpc::ByteBuffer message GUARDED_BY(mutex);
  };

 private:
  struct Known {
    std::weak_ptr<Watch> watch;
    pid_t process;
  };
  void run();
  /// False when there is nothing newer than what is there.
  bool renew();

  const StateStore& states_;
  const std::shared_ptr<Newest> newest_ = std::make_shared<Newest>();
  Mutex mutex_;
  std::condition_variable wakeup_;
  std::vector<Known> known_ GUARDED_BY(mutex_);
  bool wanted_ GUARDED_BY(mutex_) = false;  ///< there is a newer state, or a new watcher
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace balloon::daemon

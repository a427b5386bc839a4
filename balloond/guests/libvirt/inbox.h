// SPDX-License-Identifier: Apache-2.0
// What calls to libvirt have brought, on its way to the backend's thread. It outlives the calls that were
// given up.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "balloond/guests/libvirt/domain.h"
#include "balloond/guests/libvirt/link.h"
#include "base/mutex.h"

namespace balloon::daemon::libvirt {

/// A look at all domains of a libvirtd.
struct Look {
  struct Newcomer {
    Description description;
    Peer peer;
  };
  std::uint64_t number = 0;  ///< rises with each look
  Result<std::vector<Figures>> figures;
  std::map<std::string, Newcomer> newcomers{};  ///< by UUID: those that were not known
  std::map<std::string, bool> jobs{};           ///< by UUID; of some looks
  std::string version{};                        ///< of the hypervisor
  std::string lack{};                           ///< what its libvirt does not know
};

struct ErrandDone {
  Errand errand;
  std::string refusal;
};

using News = std::variant<Look, ErrandDone, Link::Event>;

class Inbox {
 public:
  explicit Inbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  void put(News news) {
    {
      const MutexLock lock(mutex_);
      news_.push_back(std::move(news));
    }
    wake_();
  }
  std::vector<News> take() {
    const MutexLock lock(mutex_);
    return std::exchange(news_, {});
  }

 private:
  const std::function<void()> wake_;
  Mutex mutex_;
  std::vector<News> news_ GUARDED_BY(mutex_);
};

}  // namespace balloon::daemon::libvirt

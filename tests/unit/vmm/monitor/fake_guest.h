// SPDX-License-Identifier: Apache-2.0
// A guest that does what it is told and remembers it.
#pragma once

#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "vmm/monitor/guest.h"

namespace balloon::vmm::test {

class FakeGuest final : public MonitorGuest {
 public:
  std::string name() const override { return "web-1"; }
  Bytes memory() const override { return 512 * kMiB; }
  std::vector<MonitorDisk> disks() const override {
    const ImageInfo raw{.path = "/images/root.img",
                        .format = "raw",
                        .virtual_size = 4 * kGiB,
                        .allocated = 3 * kMiB,
                        .backing_name = {},
                        .backing = nullptr};
    const ImageInfo qcow2{.path = "/images/data.qcow2",
                          .format = "qcow2",
                          .virtual_size = 8 * kGiB,
                          .allocated = 200 * kKiB,
                          .cluster_size = 64 * kKiB,
                          .version = 3,
                          .refcount_bits = 16,
                          .backing_name = "root.img",
                          .backing = std::make_shared<const ImageInfo>(raw)};
    return {{.name = "disk0",
             .image = raw,
             .bytes_per_second = Bytes{1'000'000},
             .counters = {.read = Bytes{4096}, .flushes = 3},
             .status = disk_status},
            {.name = "data", .image = qcow2, .read_only = true, .direct = true}};
  }
  std::vector<std::string> nets() const override { return {"net0", "uplink"}; }
  RunState run_state() const override { return state; }
  std::vector<pid_t> vcpu_threads() const override { return {101, 102}; }
  Result<void> stop() override { return change(RunState::paused, MonitorEvent::Kind::stop); }
  Result<void> cont() override { return change(RunState::running, MonitorEvent::Kind::resume); }
  Result<void> power_button() override { return did("power button"); }
  Result<void> reset() override { return did("reset"); }
  Result<void> set_link(std::size_t net, bool up) override {
    return did(std::string("net ") + std::to_string(net) + (up ? " up" : " down"));
  }
  void quit() override { [[maybe_unused]] const auto done = did("quit"); }
  Result<void> save_snapshot(const std::string& path) override {
    if (path == "/full") return fail("no space left on device");
    if (path == "/slow") slow.wait();
    return did("snapshot " + path);
  }
  bool has_balloon() const override { return with_balloon; }
  std::string balloon_id() const override { return id; }
  BalloonState balloon() const override { return {.actual = actual, .target = target}; }
  bool balloon_offers_deflate_on_oom() const override { return true; }
  bool balloon_offers_free_page_reporting() const override { return false; }
  Result<void> set_balloon(Bytes wanted) override {
    target = wanted;
    return did("balloon");
  }
  std::optional<BalloonStats> stats() const override { return sample; }
  void set_stats_interval(std::chrono::seconds wanted) override { interval = wanted; }
  void listen(std::function<void(const MonitorEvent&)> on_event) override {
    const std::lock_guard lock(mutex);
    listener = std::move(on_event);
  }

  void tell(const MonitorEvent& event) {
    const std::lock_guard lock(mutex);
    if (listener) listener(event);
  }

  RunState state = RunState::running;
  bool with_balloon = true;
  std::string id;
  IoStatus disk_status = IoStatus::ok;
  Bytes actual = 512 * kMiB;
  Bytes target = 512 * kMiB;
  std::chrono::seconds interval{-1};
  std::optional<BalloonStats> sample;
  std::vector<std::string> calls;
  std::latch slow{1};  ///< a snapshot to "/slow" takes until this is counted down

 private:
  Result<void> did(std::string what) {
    calls.push_back(std::move(what));
    return {};
  }
  Result<void> change(RunState wanted, MonitorEvent::Kind kind) {
    if (std::exchange(state, wanted) != wanted) tell({.kind = kind});
    return {};
  }
  std::mutex mutex;
  std::function<void(const MonitorEvent&)> listener;
};

}  // namespace balloon::vmm::test

// SPDX-License-Identifier: Apache-2.0
// A VMM that is only a guest link: it registers, says what the test wants said, and moves its balloon at
// once.
#pragma once

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "balloon/v1/guest_link.grpc.pb.h"

namespace balloon::test {

inline constexpr std::uint64_t kMiB = 1 << 20;
inline constexpr std::uint64_t kGiB = 1 << 30;

/// Address space that counts as resident memory of this process, as a guest's does of its VMM: a daemon does
/// not believe that a guest uses what its VMM's process does not have. A few pages stand for all of it.
class TouchedMemory {
 public:
  /// What is above `touched_max` is mapped and not touched, as most of a guest's memory is after its boot.
  TouchedMemory(std::uint64_t bytes, std::uint64_t touched_max) {
    if (bytes > touched_max) {
      untouched_size_ = bytes - touched_max;
      untouched_ = ::mmap(nullptr, untouched_size_, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      bytes = touched_max;
    }
    const int file = ::memfd_create("guest", MFD_CLOEXEC);
    if (file < 0 || ::ftruncate(file, kPiece) != 0) return;
    for (std::uint64_t at = 0; at < bytes; at += kPiece) {
      void* piece = ::mmap(nullptr, kPiece, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
      if (piece != MAP_FAILED) pieces_.push_back(piece);
    }
    ::close(file);
  }
  ~TouchedMemory() {
    for (void* piece : pieces_) ::munmap(piece, kPiece);
    if (untouched_ != MAP_FAILED) ::munmap(untouched_, untouched_size_);
  }
  TouchedMemory(const TouchedMemory&) = delete;
  TouchedMemory& operator=(const TouchedMemory&) = delete;

 private:
  static constexpr std::uint64_t kPiece = 16 * kMiB;
  std::vector<void*> pieces_;
  void* untouched_ = MAP_FAILED;
  std::uint64_t untouched_size_ = 0;
};

class FakeVmm {
 public:
  static constexpr std::uint64_t kTouchedMax = 4 * kGiB;

  /// `truthful`: this process has what the guest is said to have. The guest has touched `touched_max` at
  /// most.
  FakeVmm(const std::string& socket, v1::Register registration, bool truthful = true,
          std::uint64_t touched_max = kTouchedMax)
      : touched_(truthful ? registration.memory_bytes() : 0, touched_max),
        registration_(std::move(registration)) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own, as a process has
    stub_ = v1::GuestLinkService::NewStub(
        grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments));
    stream_ = stub_->Connect(&context_);
    v1::ConnectRequest request;
    *request.mutable_register_() = registration_;
    send(request);
    reader_ = std::thread([this] { read(); });
  }
  ~FakeVmm() { disconnect(); }
  FakeVmm(const FakeVmm&) = delete;
  FakeVmm& operator=(const FakeVmm&) = delete;

  /// A guest of `memory` that has `actual`, driver and statistics up.
  static v1::Register guest(const std::string& name, std::uint64_t memory, std::uint64_t actual) {
    v1::Register registration;
    registration.set_name(name);
    registration.set_memory_bytes(memory);
    registration.set_vcpus(1);
    registration.set_vmm_version("fake");
    auto& balloon = *registration.mutable_balloon();
    balloon.set_actual_bytes(actual);
    balloon.set_target_bytes(actual);
    balloon.set_driver_ready(true);
    balloon.set_has_stats(true);
    balloon.set_deflate_on_oom(true);
    return registration;
  }

  void disconnect() {
    if (!reader_.joinable()) return;
    context_.TryCancel();
    reader_.join();
  }

  /// A sample taken now, in which the guest uses `used` of what it has.
  void send_stats(std::uint64_t used) {
    v1::GuestStats stats;
    {
      const std::lock_guard lock(mutex_);
      stats.set_actual_bytes(registration_.balloon().actual_bytes());
    }
    stats.set_total_bytes(registration_.memory_bytes());
    stats.set_available_bytes(stats.actual_bytes() > used ? stats.actual_bytes() - used : 0);
    stats.set_free_bytes(stats.available_bytes());
    stats.set_swap_in_bytes(0);
    stats.set_swap_out_bytes(0);
    stats.set_major_faults(10);
    send_stats(stats);
  }

  void send_stats(v1::GuestStats stats) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    stats.mutable_sampled_at()->set_seconds(nanos / 1'000'000'000);
    stats.mutable_sampled_at()->set_nanos(static_cast<std::int32_t>(nanos % 1'000'000'000));
    v1::ConnectRequest request;
    *request.mutable_stats() = stats;
    send(request);
  }

  /// Of its balloon: 8192 bytes inflated, of which 4096 were in the host's memory; three stalls.
  void send_counters() {
    v1::ConnectRequest request;
    request.mutable_counters()->set_inflated_bytes(8192);
    request.mutable_counters()->set_freed_bytes(4096);
    request.mutable_counters()->set_stalls(3);
    send(request);
  }

  /// Its balloon is `gap` from its target.
  void send_balloon(std::uint64_t gap) {
    v1::ConnectRequest request;
    {
      const std::lock_guard lock(mutex_);
      auto& balloon = *registration_.mutable_balloon();
      balloon.set_actual_bytes(balloon.target_bytes() - gap);
      *request.mutable_balloon() = balloon;
    }
    send(request);
  }

  /// Its monitor stops its virtual CPUs, or lets them go on.
  void set_paused(bool paused) {
    v1::ConnectRequest request;
    {
      const std::lock_guard lock(mutex_);
      registration_.mutable_balloon()->set_paused(paused);
      *request.mutable_balloon() = registration_.balloon();
    }
    send(request);
  }

  /// From here on its balloon takes targets and stays where it is.
  void stay() {
    const std::lock_guard lock(mutex_);
    stays_ = true;
  }

  /// One that stays frees so much on its way to its target.
  void creep(std::uint64_t step) {
    v1::ConnectRequest request;
    {
      const std::lock_guard lock(mutex_);
      auto& balloon = *registration_.mutable_balloon();
      const std::uint64_t actual = balloon.actual_bytes();
      if (actual <= balloon.target_bytes()) return;
      balloon.set_actual_bytes(actual - std::min(step, actual - balloon.target_bytes()));
      *request.mutable_balloon() = balloon;
    }
    send(request);
  }

  /// Somebody else sets its size.
  void move_by_another(std::uint64_t size) {
    v1::ConnectRequest request;
    {
      const std::lock_guard lock(mutex_);
      auto& balloon = *registration_.mutable_balloon();
      balloon.set_target_bytes(size);
      balloon.set_actual_bytes(size);
      *request.mutable_balloon() = balloon;
    }
    send(request);
  }

  /// From here on each target is refused for this reason.
  void refuse(const std::string& why) {
    const std::lock_guard lock(mutex_);
    refusal_ = why;
  }

  /// From here on no target is answered, nor does its balloon move.
  void fall_silent() {
    const std::lock_guard lock(mutex_);
    silent_ = true;
  }

  std::uint64_t actual() const {
    const std::lock_guard lock(mutex_);
    return registration_.balloon().actual_bytes();
  }
  std::vector<std::uint64_t> targets() const {
    const std::lock_guard lock(mutex_);
    return targets_;
  }
  std::optional<std::chrono::nanoseconds> stats_interval() const {
    const std::lock_guard lock(mutex_);
    return stats_interval_;
  }
  v1::Register registration() const {
    const std::lock_guard lock(mutex_);
    return registration_;
  }
  /// How the daemon ended the stream; waits for it.
  std::optional<grpc::Status> ended(std::chrono::milliseconds limit = std::chrono::seconds(60)) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, limit, [this] { return end_.has_value(); });
    return end_;
  }

 private:
  void send(const v1::ConnectRequest& request) {
    const std::lock_guard lock(write_mutex_);
    stream_->Write(request);
  }

  void read() {
    v1::ConnectResponse response;
    while (stream_->Read(&response)) {
      if (response.has_set_target()) move(response.set_target());
      if (response.has_set_merging()) {
        v1::ConnectRequest result;
        result.mutable_merging_result()->set_sequence(response.set_merging().sequence());
        send(result);
      }
      const auto* interval = response.has_registered()           ? &response.registered().stats_interval()
                             : response.has_set_stats_interval() ? &response.set_stats_interval().interval()
                                                                 : nullptr;
      if (interval == nullptr) continue;
      const std::lock_guard lock(mutex_);
      stats_interval_ =
          std::chrono::seconds(interval->seconds()) + std::chrono::nanoseconds(interval->nanos());
    }
    const grpc::Status status = stream_->Finish();
    const std::lock_guard lock(mutex_);
    end_ = status;
    changed_.notify_all();
  }

  void move(const v1::SetTarget& asked) {
    v1::ConnectRequest result;
    v1::ConnectRequest update;
    {
      const std::lock_guard lock(mutex_);
      targets_.push_back(asked.target_bytes());
      if (silent_) return;
      result.mutable_target_result()->set_sequence(asked.sequence());
      result.mutable_target_result()->set_refusal(refusal_);
      if (refusal_.empty()) {
        registration_.mutable_balloon()->set_target_bytes(asked.target_bytes());
        if (!stays_) registration_.mutable_balloon()->set_actual_bytes(asked.target_bytes());
        *update.mutable_balloon() = registration_.balloon();
      }
    }
    send(result);
    if (update.has_balloon()) send(update);
  }

  TouchedMemory touched_;
  mutable std::mutex mutex_;
  std::mutex write_mutex_;
  std::condition_variable changed_;
  v1::Register registration_;
  std::vector<std::uint64_t> targets_;
  std::optional<std::chrono::nanoseconds> stats_interval_;
  std::string refusal_;
  bool stays_ = false;
  bool silent_ = false;
  std::optional<grpc::Status> end_;
  std::unique_ptr<v1::GuestLinkService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ConnectRequest, v1::ConnectResponse>> stream_;
  std::thread reader_;
};

}  // namespace balloon::test

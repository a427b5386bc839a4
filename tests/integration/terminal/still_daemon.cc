// SPDX-License-Identifier: Apache-2.0
// A daemon in which nothing happens but what its arguments say: the same guests with the same figures in
// every run, so that screens can be compared letter by letter.
//   still_daemon SOCKET GUESTS
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "balloon/v1/scheduler.grpc.pb.h"

namespace balloon::test {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kGiB = 1 << 30;

void at(google::protobuf::Timestamp& time, std::int64_t seconds) {
  time.set_seconds(1'800'000'000 + seconds);
}

std::string name_of(int number) {
  if (number == 2) return "db-" + std::string(59, 'x') + "-2";  // 64 letters, the most
  return fmt::format("web-{}", number);
}

v1::Guest guest_of(int number) {
  const auto n = static_cast<std::uint64_t>(number);
  v1::Guest guest;
  guest.set_name(name_of(number));
  (*guest.mutable_labels())["role"] = number % 2 == 0 ? "db" : "web";
  constexpr std::array kStates{v1::GUEST_STATE_CONTROLLED, v1::GUEST_STATE_STALE,  v1::GUEST_STATE_BLIND,
                               v1::GUEST_STATE_PINNED,     v1::GUEST_STATE_PAUSED, v1::GUEST_STATE_BOOTING};
  guest.set_state(number <= 6 ? kStates.at(static_cast<std::size_t>(number - 1))
                              : v1::GUEST_STATE_CONTROLLED);
  guest.set_memory_bytes(2 * kGiB);
  guest.set_min_bytes(360 * kMiB);
  guest.set_max_bytes(2 * kGiB);
  guest.set_weight(100);
  guest.set_actual_bytes(kGiB + (n % 7) * 100 * kMiB);
  guest.set_target_bytes(guest.actual_bytes() - (n % 3) * 64 * kMiB);
  guest.set_resident_bytes(guest.actual_bytes() - 20 * kMiB);
  guest.set_pid(4000 + number);
  guest.set_hypervisor("balloon-vmm");
  guest.set_paused(number == 5);
  v1::Decision& decision = *guest.mutable_decision();
  at(*decision.mutable_decided_at(), 0);
  decision.set_reason(number % 2 == 0 ? v1::REASON_RATE_LIMIT : v1::REASON_NEED);
  decision.set_share_bytes(guest.target_bytes());
  decision.set_target_bytes(guest.target_bytes());
  decision.set_explanation(
      fmt::format("{} uses 700 MiB; it needs 900 MiB (700 MiB used + 128 MiB margin + 72 MiB cache in use). "
                  "Its target is 1 GiB: no more of its memory is needed at once, so it shrinks step by step. "
                  "A change of 64 MiB or more would be made.",
                  guest.name()));
  if (number == 4) return guest;  // it never sent statistics
  if (guest.state() != v1::GUEST_STATE_BLIND) decision.set_used_bytes(700 * kMiB);
  decision.set_need_bytes(900 * kMiB);
  v1::GuestStats& stats = *guest.mutable_stats();
  at(*stats.mutable_sampled_at(), 0);
  stats.set_actual_bytes(guest.actual_bytes());
  stats.set_total_bytes(2 * kGiB);
  stats.set_available_bytes(guest.actual_bytes() - 700 * kMiB);
  stats.set_free_bytes(100 * kMiB);
  stats.mutable_round_trip()->set_nanos(800'000);
  return guest;
}

v1::Host host_of(int guests) {
  v1::Host host;
  at(*host.mutable_sampled_at(), 0);
  host.set_total_bytes(8 * kGiB);
  host.set_free_bytes(kGiB);
  host.set_available_bytes(3 * kGiB);
  host.set_swap_total_bytes(4 * kGiB);
  host.set_swap_free_bytes(4 * kGiB - 100 * kMiB);
  host.set_pressure_some_ratio(0.012);
  host.set_reserve_bytes(400 * kMiB);
  host.set_budget_bytes(7 * kGiB);
  host.set_committed_bytes(static_cast<std::uint64_t>(guests) * kGiB);
  host.set_configured_bytes(static_cast<std::uint64_t>(guests) * 2 * kGiB);
  host.set_ksm_saved_bytes(64 * kMiB);
  host.set_state(guests > 6 ? v1::HOST_STATE_INFEASIBLE : v1::HOST_STATE_NORMAL);
  if (guests > 6) {
    host.set_explanation(
        "the guaranteed minimums of 200 guests are 70.3 GiB together, and guests may have 7 GiB. Lower "
        "minimums in the policy, end reservations, or move guests away");
  }
  return host;
}

v1::Needs needs_of_days(int number, int days) {
  v1::Needs needs;
  needs.mutable_observed()->set_seconds(days * 86'400);
  needs.set_p95_bytes(static_cast<std::uint64_t>(300 + 10 * (number % 50) + days) * kMiB);
  needs.set_p99_bytes(needs.p95_bytes() + 100 * kMiB);
  needs.set_max_bytes(needs.p95_bytes() + 500 * kMiB);
  return needs;
}

/// Every seventh guest is gone.
v1::GuestNeeds needs_of(int number, bool with_days) {
  v1::GuestNeeds guest;
  guest.set_name(name_of(number));
  if (number % 7 != 0) {
    guest.set_memory_bytes(2 * kGiB);
    guest.set_min_bytes(360 * kMiB);
    *guest.mutable_day() = needs_of_days(number, 1);
  }
  *guest.mutable_week() = needs_of_days(number, 7);
  *guest.mutable_month() = needs_of_days(number, 30);
  for (int day = 0; with_days && day < 12; ++day) {
    v1::DayOfNeeds& out = *guest.add_days();
    out.mutable_day()->set_seconds(1'795'824'000 + day * 86'400);
    *out.mutable_needs() = needs_of_days(number + day, 1);
  }
  return guest;
}

class StillDaemon final : public v1::SchedulerService::Service {
 public:
  explicit StillDaemon(int guests) : guests_(guests) {}

 private:
  /// By name, as the daemon has them.
  void fill(google::protobuf::RepeatedPtrField<v1::Guest>& out) const {
    for (int number = 1; number <= guests_; ++number) *out.Add() = guest_of(number);
    std::ranges::sort(out.pointer_begin(), out.pointer_end(), {},
                      [](const v1::Guest* guest) { return guest->name(); });
  }

  grpc::Status ListGuests(grpc::ServerContext*, const v1::ListGuestsRequest*,
                          v1::ListGuestsResponse* response) override {
    fill(*response->mutable_guests());
    return grpc::Status::OK;
  }
  grpc::Status GetGuest(grpc::ServerContext*, const v1::GetGuestRequest* request,
                        v1::GetGuestResponse* response) override {
    for (int number = 1; number <= guests_; ++number) {
      if (name_of(number) != request->name()) continue;
      *response->mutable_guest() = guest_of(number);
      return grpc::Status::OK;
    }
    return {grpc::StatusCode::NOT_FOUND, fmt::format("there is no guest named '{}'", request->name())};
  }
  grpc::Status GetHost(grpc::ServerContext*, const v1::GetHostRequest*,
                       v1::GetHostResponse* response) override {
    *response->mutable_host() = host_of(guests_);
    return grpc::Status::OK;
  }
  grpc::Status ListNeeds(grpc::ServerContext*, const v1::ListNeedsRequest* request,
                         v1::ListNeedsResponse* response) override {
    for (int number = 1; number <= guests_; ++number) {
      if (request->has_name() && name_of(number) != request->name()) continue;
      *response->add_guests() = needs_of(number, request->has_name());
    }
    return grpc::Status::OK;
  }
  grpc::Status WatchGuests(grpc::ServerContext* context, const v1::WatchGuestsRequest*,
                           grpc::ServerWriter<v1::WatchGuestsResponse>* writer) override {
    v1::WatchGuestsResponse state;
    fill(*state.mutable_guests());
    *state.mutable_host() = host_of(guests_);
    for (std::uint64_t revision = 1; !context->IsCancelled(); ++revision) {
      state.set_revision(revision);
      if (!writer->Write(state)) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return grpc::Status::OK;
  }

  const int guests_;
};

}  // namespace
}  // namespace balloon::test

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  balloon::test::StillDaemon service(std::atoi(argv[2]));
  grpc::ServerBuilder builder;
  builder.AddListeningPort(std::string("unix:") + argv[1], grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  if (!server) return 1;
  std::puts("ready");
  std::fflush(stdout);
  int signal = 0;
  ::sigwait(&ends, &signal);
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}

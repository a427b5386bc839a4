// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/capacity_service.h"

#include <fmt/format.h>

#include <algorithm>

#include "balloond/api/reserve_call.h"
#include "base/bytes.h"
#include "policy/outlook.h"

namespace balloon::daemon {
namespace {

using policy::Fit;

/// Each costs as much as sharing memory out once.
constexpr int kQueriesMost = 256;
/// More is no help to whoever chooses a host.
constexpr std::size_t kSqueezedMost = 20;

static_assert(static_cast<int>(policy::HostState::emergency) == v1::HOST_STATE_EMERGENCY);

grpc::ServerUnaryReactor* answer(grpc::CallbackServerContext* context, const grpc::Status& status) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

grpc::Status undecided() {
  return {grpc::StatusCode::UNAVAILABLE, "the host has not been sampled yet: try again"};
}

void set_generation(v1::Generation& out, const State& state, const std::string& epoch) {
  out.set_epoch(epoch);
  out.set_revision(state.revision);
}

v1::Fit to_proto(Fit fit) {
  switch (fit) {
    case Fit::no:
      return v1::FIT_NO;
    case Fit::now:
      return v1::FIT_NOW;
    case Fit::after_reclaim:
      return v1::FIT_AFTER_RECLAIM;
    case Fit::waits:
      return v1::FIT_WAITS;
  }
  return v1::FIT_UNSPECIFIED;
}

std::string reason_of(const policy::FitAnswer& answer, const ReservationRequest& wish,
                      const policy::Outlook& outlook) {
  const Bytes free = outlook.supply.free;
  const Bytes missing = above(wish.min, free);
  switch (answer.fit) {
    case Fit::no:
      if (answer.too_large)
        return fmt::format("the host cannot hold it: guests and reservations leave {} of {}",
                           format_bytes(outlook.most()), format_bytes(outlook.supply.budget));
      return fmt::format("{} are free, and balloons cannot free {} more within {} s", format_bytes(free),
                         format_bytes(missing), std::chrono::ceil<std::chrono::seconds>(wish.within).count());
    case Fit::now:
      return fmt::format("{} are free", format_bytes(free));
    case Fit::after_reclaim:
      return fmt::format("{} are free, and guests can give {} more", format_bytes(free),
                         format_bytes(missing));
    case Fit::waits:
      return fmt::format("{} are free, and programs use what is missing: it waits until they free {}",
                         format_bytes(free), format_bytes(missing));
  }
  return {};
}

void fill(v1::FitAnswer& out, const policy::FitAnswer& answer, const ReservationRequest& wish,
          const State& state) {
  out.set_fit(to_proto(answer.fit));
  out.set_reason(reason_of(answer, wish, state.outlook));
  if (answer.fit == Fit::after_reclaim) {
    out.mutable_ready_in()->set_seconds(answer.ready_in.count() / 1'000'000'000);
    out.mutable_ready_in()->set_nanos(static_cast<std::int32_t>(answer.ready_in.count() % 1'000'000'000));
  }
  out.set_squeezed_guests(static_cast<std::uint32_t>(answer.squeezed.size()));
  for (std::size_t i = 0; i < std::min(answer.squeezed.size(), kSqueezedMost); ++i) {
    const policy::Squeeze& each = answer.squeezed[i];
    const GuestStatus& guest = state.guests.at(each.guest);
    v1::Squeeze& squeezed = *out.add_squeezed();
    squeezed.set_name(guest.record.name);
    squeezed.set_share_bytes(each.from.count());
    squeezed.set_share_then_bytes(each.to.count());
    squeezed.set_actual_bytes(guest.actual.count());
  }
}

void refuse_boot_memory(v1::FitAnswer& out, Bytes left) {
  out.set_fit(v1::FIT_NO);
  out.set_reason(
      fmt::format("policy (admission.ram_allocation_ratio) leaves {} of boot memory for guests to be",
                  format_bytes(left)));
}

v1::ReserveRequest as_reserve(const v1::FitQuery& query) {
  v1::ReserveRequest request;
  request.set_id("guest");
  request.set_min_bytes(query.min_bytes());
  if (query.has_max_bytes()) request.set_max_bytes(query.max_bytes());
  if (query.has_priority()) request.set_priority(query.priority());
  if (query.has_within()) *request.mutable_within() = query.within();
  return request;
}

}  // namespace

grpc::ServerUnaryReactor* CapacityService::GetCapacity(grpc::CallbackServerContext* context,
                                                       const v1::GetCapacityRequest*,
                                                       v1::GetCapacityResponse* response) {
  if (!peers_.roles_of(context->peer()).has(Role::read)) return answer(context, without_role(Role::read));
  using std::chrono::seconds;
  const auto state = states_.newest();
  if (state->revision == 0) return answer(context, undecided());
  const policy::HostSnapshot& memory = state->host.memory;
  const policy::Outlook& outlook = state->outlook;
  v1::Capacity& out = *response->mutable_capacity();
  out.set_host_id(host_.id);
  out.set_host_name(host_.name);
  set_generation(*out.mutable_generation(), *state, states_.epoch());
  out.set_total_bytes(memory.total.count());
  out.set_reserve_bytes(state->reserve.count());
  out.set_budget_bytes(state->budget.count());
  out.set_committed_bytes(state->committed.count());
  out.set_reserved_bytes(state->reserved.count());
  out.set_floor_bytes(outlook.guaranteed().count());
  out.set_free_bytes(outlook.supply.free.count());
  out.set_reclaimable_5s_bytes(outlook.reclaimable(seconds(5)).count());
  out.set_reclaimable_30s_bytes(outlook.reclaimable(seconds(30)).count());
  out.set_largest_bytes(outlook.most().count());
  out.set_pressure_some_ratio(memory.pressure_some);
  out.set_pressure_full_ratio(memory.pressure_full);
  out.set_state(static_cast<v1::HostState>(state->host_state));
  out.set_guests(static_cast<std::uint32_t>(state->guests.size()));
  out.set_reservations(static_cast<std::uint32_t>(outlook.consumers.size() - outlook.givers.size()));
  out.set_not_applied(state->not_applied);
  if (state->boot_memory_free) out.set_boot_memory_free_bytes(state->boot_memory_free->count());
  return answer(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* CapacityService::CheckFit(grpc::CallbackServerContext* context,
                                                    const v1::CheckFitRequest* request,
                                                    v1::CheckFitResponse* response) {
  if (!peers_.roles_of(context->peer()).has(Role::read)) return answer(context, without_role(Role::read));
  const auto state = states_.newest();
  if (state->revision == 0) return answer(context, undecided());
  if (request->queries_size() > kQueriesMost)
    return answer(context,
                  {grpc::StatusCode::INVALID_ARGUMENT,
                   fmt::format("{} queries are more than {}", request->queries_size(), kQueriesMost)});
  policy::FitCheck check(state->outlook);
  for (int i = 0; i < request->queries_size(); ++i) {
    ReservationRequest wish;
    if (const auto good = read_wish(as_reserve(request->queries(i)), wish); !good.ok()) {
      return answer(context, {good.error_code(), fmt::format("query {}: {}", i, good.error_message())});
    }
    v1::FitAnswer& answer = *response->add_answers();
    if (state->boot_memory_free && boot_memory_of(wish) > *state->boot_memory_free) {
      refuse_boot_memory(answer, *state->boot_memory_free);
    } else {
      fill(answer, check.check(wish.min, wish.max, wish.priority, wish.within), wish, *state);
    }
  }
  set_generation(*response->mutable_generation(), *state, states_.epoch());
  return answer(context, grpc::Status::OK);
}

}  // namespace balloon::daemon

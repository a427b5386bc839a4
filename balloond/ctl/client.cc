// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/client.h"

#include <fmt/format.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

namespace balloon::ctl {
namespace {

/// gRPC's default of 4 MiB is less than what a thousand guests with their labels are; the daemon's own word
/// is taken whole.
std::shared_ptr<grpc::Channel> dial(const std::string& socket) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

Client::Client(const std::string& socket, std::chrono::nanoseconds timeout)
    : socket_(socket), timeout_(timeout) {
  const auto channel = dial(socket);
  stub_ = v1::SchedulerService::NewStub(channel);
  capacity_ = v1::CapacityService::NewStub(channel);
}

std::unique_ptr<grpc::ClientContext> Client::context(bool with_deadline,
                                                     std::chrono::nanoseconds more) const {
  auto context = std::make_unique<grpc::ClientContext>();
  if (with_deadline) {
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::duration_cast<std::chrono::system_clock::duration>(timeout_ + more));
  }
  return context;
}

CallError Client::error(const grpc::Status& status) const {
  switch (status.error_code()) {
    case grpc::StatusCode::NOT_FOUND:
      return {Exit::not_found, status.error_message()};
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::PERMISSION_DENIED:
      return {Exit::refused, status.error_message()};
    case grpc::StatusCode::UNAVAILABLE:
      return {
          Exit::unreachable,
          fmt::format("no daemon can be reached at {}: is balloond running, and may you use its socket? ({})",
                      socket_, status.error_message())};
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return {Exit::unreachable, fmt::format("the daemon at {} did not answer in time", socket_)};
    default:
      return {Exit::failure, status.error_message()};
  }
}

Answer<v1::ListGuestsResponse> Client::list() {
  v1::ListGuestsResponse response;
  const auto status = stub_->ListGuests(context(true).get(), {}, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response;
}

Answer<v1::Guest> Client::get(const std::string& name) {
  v1::GetGuestRequest request;
  request.set_name(name);
  v1::GetGuestResponse response;
  const auto status = stub_->GetGuest(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response.guest();
}

Answer<v1::Host> Client::host() {
  v1::GetHostResponse response;
  const auto status = stub_->GetHost(context(true).get(), {}, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response.host();
}

Answer<v1::Guest> Client::set(const std::string& name, Bytes target,
                              std::optional<std::chrono::nanoseconds> duration) {
  v1::SetTargetRequest request;
  request.set_name(name);
  request.set_target_bytes(target.count());
  if (duration) {
    request.mutable_duration()->set_seconds(duration->count() / 1'000'000'000);
    request.mutable_duration()->set_nanos(static_cast<std::int32_t>(duration->count() % 1'000'000'000));
  }
  v1::SetTargetResponse response;
  const auto status = stub_->SetTarget(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response.guest();
}

Answer<v1::Guest> Client::merge(const std::string& name, bool merging) {
  v1::SetMergingRequest request;
  request.set_name(name);
  request.set_merging(merging);
  v1::SetMergingResponse response;
  const auto status = stub_->SetMerging(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response.guest();
}

Answer<v1::PauseControlResponse> Client::pause(std::optional<std::chrono::nanoseconds> duration) {
  v1::PauseControlRequest request;
  if (duration) {
    request.mutable_duration()->set_seconds(duration->count() / 1'000'000'000);
    request.mutable_duration()->set_nanos(static_cast<std::int32_t>(duration->count() % 1'000'000'000));
  }
  v1::PauseControlResponse response;
  const auto status = stub_->PauseControl(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response;
}

Answer<v1::ResumeControlResponse> Client::resume() {
  v1::ResumeControlResponse response;
  const auto status = stub_->ResumeControl(context(true).get(), {}, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response;
}

Answer<v1::Guest> Client::clear(const std::string& name) {
  v1::ClearTargetRequest request;
  request.set_name(name);
  v1::ClearTargetResponse response;
  const auto status = stub_->ClearTarget(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response.guest();
}

Answer<v1::Reservation> Client::reserve(const v1::ReserveRequest& request, std::chrono::nanoseconds within) {
  v1::ReserveResponse response;
  const auto call = context(true, within);
  const auto status = stub_->Reserve(call.get(), request, &response);
  // The daemon's own word that the time is over, not the end of our patience.
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED &&
      std::chrono::system_clock::now() < call->deadline()) {
    return std::unexpected(CallError{Exit::refused, "its time is over: " + status.error_message()});
  }
  if (!status.ok()) return std::unexpected(error(status));
  return response.reservation();
}

Answer<v1::Reservation> Client::extend(const v1::ExtendReservationRequest& request) {
  v1::ExtendReservationResponse response;
  const auto status = stub_->ExtendReservation(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response.reservation();
}

Answer<v1::Reservation> Client::commit(const v1::CommitReservationRequest& request) {
  v1::CommitReservationResponse response;
  const auto status = stub_->CommitReservation(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response.reservation();
}

Answer<v1::Reservation> Client::reservation(const std::string& id) {
  v1::GetReservationRequest request;
  request.set_id(id);
  v1::GetReservationResponse response;
  const auto status = stub_->GetReservation(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response.reservation();
}

Answer<void> Client::release(const std::string& id, const std::string& token, bool force) {
  v1::ReleaseReservationRequest request;
  request.set_id(id);
  request.set_token(token);
  request.set_force(force);
  v1::ReleaseReservationResponse response;
  const auto status = stub_->ReleaseReservation(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return {};
}

Answer<v1::ListReservationsResponse> Client::reservations() {
  v1::ListReservationsResponse response;
  const auto status = stub_->ListReservations(context(true).get(), {}, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response;
}

Answer<v1::ListNeedsResponse> Client::needs(const std::string& guest) {
  v1::ListNeedsRequest request;
  if (!guest.empty()) request.set_name(guest);
  v1::ListNeedsResponse response;
  const auto status = stub_->ListNeeds(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response;
}

Answer<v1::Capacity> Client::capacity() {
  v1::GetCapacityResponse response;
  const auto status = capacity_->GetCapacity(context(true).get(), {}, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response.capacity();
}

Answer<v1::CheckFitResponse> Client::fit(const v1::CheckFitRequest& request) {
  v1::CheckFitResponse response;
  const auto status = capacity_->CheckFit(context(true).get(), request, &response);
  if (!status.ok()) return std::unexpected(error(status));
  return response;
}

Answer<void> Client::watch(const std::function<bool(v1::WatchGuestsResponse&)>& show) {
  const auto call = context(false);
  const auto watch_by = [this](grpc::ClientContext* watching) {
    const MutexLock lock(watching_mutex_);
    watching_ = watching;
  };
  watch_by(call.get());
  const auto stream = stub_->WatchGuests(call.get(), {});
  v1::WatchGuestsResponse response;
  bool enough = false;
  while (stream->Read(&response)) {
    if (enough || show(response)) continue;
    enough = true;
    call->TryCancel();
  }
  const auto status = stream->Finish();
  watch_by(nullptr);
  if (enough || status.ok()) return {};
  // A daemon that stops cuts its streams: for the watcher it is no longer there.
  if (status.error_code() == grpc::StatusCode::CANCELLED)
    return std::unexpected(
        CallError{Exit::unreachable, fmt::format("the daemon at {} has stopped", socket_)});
  return std::unexpected(error(status));
}

void Client::end_watch() {
  const MutexLock lock(watching_mutex_);
  if (watching_ != nullptr) watching_->TryCancel();
}

}  // namespace balloon::ctl

// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/proxmox.h"

#include <algorithm>
#include <cmath>

#include "policy/peers/plans.h"
#include "policy/peers/readings.h"

namespace balloon::policy::peers {
namespace {

/// The original's loop ends when nothing changes any more; rounding could put that off.
constexpr int kMostRounds = 1000;

}  // namespace

Plan Proxmox::decide(const Snapshot& snapshot) {
  Plan plan = hold(snapshot);
  grant_unseen(snapshot, Promise::minimum, plan);
  gather(snapshot);
  const auto total = static_cast<double>(snapshot.host.total);
  const double in_use = total - static_cast<double>(std::min(snapshot.host.available, snapshot.host.total));
  const double goal = std::trunc(settings_.ballooning_target * total - in_use);
  if (std::abs(goal) > static_cast<double>(settings_.ignored)) share(goal);
  if (goal < 0) plan.state = HostState::tight;
  for (const Vm& vm : vms_) {
    if (vm.next != vm.balloon) ask(snapshot.guests[vm.guest], vm.next, plan.guests[vm.guest]);
  }
  start_at_minimum(snapshot, plan);
  if (snapshot.host.ksm && (!ksm_at_ || snapshot.now - *ksm_at_ >= settings_.ksm_interval)) {
    plan.ksm = tune_ksm(settings_.ksm, snapshot, static_cast<double>(snapshot.host.available));
    ksm_at_ = snapshot.now;
  }
  return plan;
}

/// Guests whose driver answers, which have a minimum and a share.
void Proxmox::gather(const Snapshot& snapshot) {
  vms_.clear();
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    if (!guest.controllable || guest.limits.min == Bytes{0} || guest.limits.weight == 0) continue;
    Vm vm;
    vm.guest = i;
    vm.balloon = vm.next = static_cast<double>(guest.actual);
    vm.balloon_min = static_cast<double>(std::min(guest.limits.min, guest.memory));
    vm.maxmem = std::max(vm.balloon_min, static_cast<double>(std::min(guest.limits.max, guest.memory)));
    vm.shares = static_cast<double>(guest.limits.weight) * settings_.shares_per_weight;
    const auto free = reported_free(guest);
    vm.roomy = free && *free > settings_.roomy * vm.balloon_min && vm.balloon >= vm.balloon_min;
    vms_.push_back(vm);
  }
}

/// Growth goes to those under pressure first, shrinking to those with room; to all when that moved nothing.
void Proxmox::share(double goal) {
  const double rest = change(goal > 0 ? Of::pressed : Of::roomy, goal);
  if (std::abs(rest) >= std::abs(goal)) change(Of::all, rest);
}

/// Moves guests towards their shares of what they have beyond their minimums and `bytes` more; gives back
/// what of `bytes` could not be placed.
double Proxmox::change(Of which, double bytes) {
  for (Vm& vm : vms_) vm.settled = false;
  double rest = bytes;
  bool repeat = true;
  bool progress = true;
  for (int i = 0; rest != 0 && repeat && progress && i < kMostRounds; ++i) {
    repeat = progress = false;
    rest -= round(which, bytes, rest, repeat, progress);
  }
  return rest;
}

double Proxmox::round(Of which, double bytes, double rest, bool& repeat, bool& progress) {
  const auto takes_part = [which](const Vm& vm) {
    return !vm.settled && (which == Of::all || vm.roomy == (which == Of::roomy));
  };
  double pool = rest;
  double shares = 0;
  for (const Vm& vm : vms_) {
    if (!takes_part(vm)) continue;
    pool += vm.next - vm.balloon_min;
    shares += vm.shares;
  }
  const auto most = static_cast<double>(settings_.maxchange);
  double changes = 0;
  for (Vm& vm : vms_) {
    if (!takes_part(vm)) continue;
    const double unbounded = vm.balloon_min + std::trunc(pool / shares * vm.shares);
    const double desired = std::clamp(unbounded, vm.balloon_min, vm.maxmem);
    if (desired != unbounded) repeat = true;
    double next = 0;
    if (bytes > 0 && desired > vm.balloon) {
      next = std::min(vm.balloon + most, desired);
    } else if (desired < vm.balloon) {
      next = std::max(vm.balloon - most, desired);
    } else {
      vm.settled = true;
      continue;
    }
    if (next == vm.next) continue;
    changes += next - vm.next;
    vm.next = next;
    repeat = progress = true;
  }
  return changes;
}

/// A guest that starts is put at its minimum (qemu-server does it). One that is found running is left as it
/// is.
void Proxmox::start_at_minimum(const Snapshot& snapshot, Plan& plan) {
  seen_.align(snapshot);
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    if (!first_ && guest.controllable && !seen_[i].controllable && guest.limits.min > Bytes{0}) {
      ask(guest, static_cast<double>(guest.limits.min), plan.guests[i]);
    }
    // Once up it stays known: a guest that was only out of reach has not started again.
    seen_[i].controllable |= guest.controllable;
  }
  first_ = false;
}

}  // namespace balloon::policy::peers

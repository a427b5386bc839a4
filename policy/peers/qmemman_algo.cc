// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/qmemman_algo.h"

#include <algorithm>
#include <cmath>

namespace balloon::policy::peers {
namespace {

/// Against rounding errors, as in the original.
constexpr double kRounding = 0.999;

bool takes_part(const QmemmanDomain& domain) { return domain.mem_used && !domain.no_progress; }

double need(const QmemmanSettings& settings, const QmemmanDomain& domain) {
  return pref_mem(settings, domain) - domain.mem_actual;
}

/// Those who give before those who get.
std::vector<QmemmanRequest> donors_first(std::vector<QmemmanRequest> requests,
                                         std::span<QmemmanDomain* const> domains) {
  std::ranges::stable_partition(requests, [domains](const QmemmanRequest& request) {
    return request.target < domains[request.guest]->mem_actual;
  });
  return requests;
}

/// What guests at their maximum could not take goes to the others in equal parts.
void spread(double left, std::vector<QmemmanRequest>& requests, std::span<QmemmanDomain* const> domains) {
  auto acceptors = static_cast<double>(std::ranges::count_if(
      requests, [domains](const QmemmanRequest& r) { return r.target < domains[r.guest]->mem_max; }));
  while (left >= 1 && acceptors > 0) {
    const double bonus = std::trunc(kRounding * (left / acceptors));
    left = 0;
    for (QmemmanRequest& request : requests) {
      const double max = domains[request.guest]->mem_max;
      if (request.target >= max) continue;
      request.target += bonus;
      if (request.target < max) continue;
      left += request.target - max;
      request.target = max;
      acceptors -= 1;
    }
  }
}

std::vector<QmemmanRequest> balance_with_enough(const QmemmanSettings& settings, double total_pref,
                                                double available, std::span<QmemmanDomain* const> domains) {
  std::vector<QmemmanRequest> requests;
  double left = 0;
  for (std::size_t i = 0; i < domains.size(); ++i) {
    if (!takes_part(*domains[i])) continue;
    const double pref = pref_mem(settings, *domains[i]);
    const double target = std::trunc(kRounding * (pref + pref / total_pref * available));
    left += std::max(0.0, target - domains[i]->mem_max);
    requests.push_back({i, std::min(target, domains[i]->mem_max)});
  }
  spread(left, requests, domains);
  return donors_first(std::move(requests), domains);
}

std::vector<QmemmanRequest> balance_with_little(const QmemmanSettings& settings, double free,
                                                std::span<QmemmanDomain* const> domains) {
  std::vector<QmemmanRequest> donors;
  std::vector<std::size_t> acceptors;
  double left = free;
  double acceptors_pref = 0;
  for (std::size_t i = 0; i < domains.size(); ++i) {
    const QmemmanDomain& domain = *domains[i];
    if (!takes_part(domain)) continue;
    const double donation = -need(settings, domain);
    if (donation <= 0 && domain.mem_actual < domain.mem_max) {
      acceptors.push_back(i);
      acceptors_pref += pref_mem(settings, domain);
    } else if (donation >= settings.least_donation) {
      left += settings.credit_donations ? donation : -donation;
      donors.push_back({i, pref_mem(settings, domain)});
    }
  }
  if (left < 0) return donors;
  for (const std::size_t i : acceptors) {
    const QmemmanDomain& domain = *domains[i];
    const double target = domain.mem_actual + pref_mem(settings, domain) / acceptors_pref * left;
    donors.push_back({i, std::min(std::trunc(kRounding * target), domain.mem_max)});
  }
  return donors;
}

}  // namespace

double pref_mem(const QmemmanSettings& settings, const QmemmanDomain& domain) {
  const double wanted = std::min(*domain.mem_used * settings.cache_factor, domain.mem_max);
  return std::trunc(std::max({wanted, settings.min_prefmem, domain.min_prefmem}));
}

std::vector<QmemmanRequest> balance(const QmemmanSettings& settings, double free,
                                    std::span<QmemmanDomain* const> domains) {
  double total_need = 0;
  double total_pref = 0;
  for (const QmemmanDomain* domain : domains) {
    if (!takes_part(*domain)) continue;
    total_need += need(settings, *domain);
    total_pref += pref_mem(settings, *domain);
  }
  const double available = free - total_need;
  return available > 0 ? balance_with_enough(settings, total_pref, available, domains)
                       : balance_with_little(settings, free, domains);
}

std::vector<QmemmanRequest> balloon_down(const QmemmanSettings& settings, double size,
                                         std::span<QmemmanDomain* const> domains) {
  std::vector<QmemmanRequest> requests;
  double available = 0;
  for (std::size_t i = 0; i < domains.size(); ++i) {
    if (!takes_part(*domains[i])) continue;
    const double donation = -need(settings, *domains[i]);
    if (donation <= 0) continue;
    requests.push_back({i, donation});
    available += donation;
  }
  if (requests.empty() || available < size) return {};
  for (QmemmanRequest& request : requests) {
    const double borrowed = request.target * (size / available) * settings.req_safety_net_factor;
    request.target = std::trunc(domains[request.guest]->mem_actual - borrowed);
  }
  return requests;
}

}  // namespace balloon::policy::peers

// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/access.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <tuple>
#include <utility>

namespace balloon::daemon {
namespace {

/// sysconf(_SC_GETPW_R_SIZE_MAX) and _SC_GETGR_R_SIZE_MAX are 1024 and only hints.
constexpr std::size_t kEntryMax = 16384;

template <typename Id>
std::optional<Id> as_number(const std::string& text) {
  Id id = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, id);
  return error == std::errc{} && end == last ? std::optional(id) : std::nullopt;
}

Result<uid_t> find_user(const std::string& name) {
  if (const auto id = as_number<uid_t>(name)) return *id;
  std::vector<char> buffer(kEntryMax);
  passwd entry{};
  passwd* found = nullptr;
  ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) return fail(fmt::format("user '{}' (access) does not exist on this host", name));
  return entry.pw_uid;
}

Result<gid_t> find_group(const std::string& name) {
  if (const auto id = as_number<gid_t>(name)) return *id;
  std::vector<char> buffer(kEntryMax);
  group entry{};
  group* found = nullptr;
  ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) return fail(fmt::format("group '{}' (access) does not exist on this host", name));
  return entry.gr_gid;
}

}  // namespace

grpc::Status without_role(Role role) {
  constexpr std::array kNames{"link", "read", "reserve", "operate"};
  return {grpc::StatusCode::PERMISSION_DENIED,
          fmt::format("this takes the role '{}', which your user does not have on this socket (access in "
                      "balloond.yaml)",
                      kNames.at(static_cast<std::size_t>(role)))};
}

Access::Access() : rules_{{.role = Role::link, .anybody = true}, {.role = Role::read, .anybody = true}} {}

Result<Access> Access::of(const AccessConfig& config) {
  Access access;
  access.rules_.clear();
  for (const auto& [role, written, anybody_unless] :
       {std::tuple(Role::link, &config.link, true), std::tuple(Role::read, &config.read, true),
        std::tuple(Role::reserve, &config.reserve, false),
        std::tuple(Role::operate, &config.operate, false)}) {
    auto rule = rule_of(role, *written, anybody_unless);
    if (!rule) return std::unexpected(rule.error());
    access.rules_.push_back(std::move(*rule));
  }
  return access;
}

Result<Access::Rule> Access::rule_of(Role role, const std::optional<AccessRule>& written,
                                     bool anybody_unless) {
  Rule rule{.role = role, .anybody = !written && anybody_unless};
  if (!written) return rule;
  for (const std::string& name : written->users) {
    const auto user = find_user(name);
    if (!user) return std::unexpected(user.error());
    rule.users.insert(*user);
  }
  for (const std::string& name : written->groups) {
    const auto group = find_group(name);
    if (!group) return std::unexpected(group.error());
    rule.groups.insert(*group);
  }
  return rule;
}

Roles Access::roles_of(uid_t user, const std::vector<gid_t>& groups) const {
  if (user == 0 || user == ::geteuid()) return Roles::all();
  const bool named = std::ranges::any_of(rules_, [&](const Rule& rule) { return rule.users.contains(user); });
  Roles roles = Roles::none();
  for (const Rule& rule : rules_) {
    const bool by_group =
        std::ranges::any_of(groups, [&](gid_t group) { return rule.groups.contains(group); });
    if (named ? rule.users.contains(user) : rule.anybody || by_group) roles = roles.with(rule.role);
  }
  return roles;
}

std::vector<gid_t> groups_of_peer(int socket) {
  std::vector<gid_t> groups(64);
  socklen_t size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  // unix(7), since Linux 4.13. ERANGE: there are more, and size says how much room they take.
  int failed = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  if (failed != 0 && errno == ERANGE) {
    groups.resize(size / sizeof(gid_t));
    failed = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  }
  groups.resize(failed == 0 ? size / sizeof(gid_t) : 0);
  ucred credentials{};
  size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0)
    groups.push_back(credentials.gid);
  return groups;
}

}  // namespace balloon::daemon

// SPDX-License-Identifier: Apache-2.0
// Who may do what: by the kernel's word on the peer of a connection, and the configuration.
#pragma once

#include <grpcpp/support/status.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "balloond/config/access_config.h"
#include "base/error.h"

namespace balloon::daemon {

enum class Role : std::uint8_t {
  link,     ///< run a guest: what VMMs need
  read,     ///< look at guests, host, reservations and capacity
  reserve,  ///< have memory kept for guests to be, and change that with its token
  operate,  ///< pin, merge, pause, and force others' reservations
};

/// A set of roles. Who operates may reserve, and who reserves may read.
class Roles {
 public:
  static constexpr Roles all() { return Roles(0b1111); }
  static constexpr Roles none() { return Roles(0); }
  static constexpr Roles of(Role role) { return none().with(role); }

  constexpr Roles with(Role role) const {
    Roles more(static_cast<std::uint8_t>(bits_ | bit(role)));
    if (role == Role::operate) return more.with(Role::reserve);
    return role == Role::reserve ? more.with(Role::read) : more;
  }
  /// What is in both.
  constexpr Roles and_in(Roles other) const { return Roles(static_cast<std::uint8_t>(bits_ & other.bits_)); }
  constexpr bool has(Role role) const { return (bits_ & bit(role)) != 0; }
  bool operator==(const Roles&) const = default;

 private:
  explicit constexpr Roles(std::uint8_t bits) : bits_(bits) {}
  static constexpr std::uint8_t bit(Role role) {
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(role));
  }
  std::uint8_t bits_;
};

/// The answer to a caller who has `roles`, of which `role` is none.
grpc::Status without_role(Role role);

class Access {
 public:
  /// Whoever may connect may run guests and look; root and the daemon's user may do everything.
  Access();
  /// Looks up users and groups; the error names one that this host does not have.
  static Result<Access> of(const AccessConfig& config);

  /// A user that a rule names has the roles of the rules that name it, whatever its groups: so the user that
  /// runs guests gets no more by being in the socket's group.
  Roles roles_of(uid_t user, const std::vector<gid_t>& groups) const;

 private:
  struct Rule {
    Role role;
    bool anybody = false;
    std::set<uid_t> users{};
    std::set<gid_t> groups{};
  };
  static Result<Rule> rule_of(Role role, const std::optional<AccessRule>& written, bool anybody_unless);
  std::vector<Rule> rules_;
};

/// The user's and its process's groups, by the kernel's word on the peer of a Unix socket.
std::vector<gid_t> groups_of_peer(int socket);

}  // namespace balloon::daemon

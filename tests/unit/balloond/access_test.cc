// SPDX-License-Identifier: Apache-2.0
// Who may do what: rules of users and groups, and what a socket allows at most.
#include "balloond/api/access.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace balloon::daemon {
namespace {

/// Neither root nor whoever runs these tests.
constexpr uid_t kVmm = 64'101;
constexpr uid_t kNova = 64'102;
constexpr uid_t kAnna = 64'103;
constexpr gid_t kSocketGroup = 64'201;
constexpr gid_t kAdmins = 64'202;

AccessRule users(std::vector<uid_t> ids) {
  AccessRule rule;
  for (const uid_t id : ids) rule.users.push_back(std::to_string(id));
  return rule;
}
AccessRule groups(std::vector<gid_t> ids) {
  AccessRule rule;
  for (const gid_t id : ids) rule.groups.push_back(std::to_string(id));
  return rule;
}
Access access_of(const AccessConfig& config) {
  auto access = Access::of(config);
  EXPECT_TRUE(access) << access.error().message;
  return access ? std::move(*access) : Access();
}

TEST(AccessTest, WhoOperatesMayReserveAndWhoReservesMayLook) {
  EXPECT_TRUE(Roles::of(Role::operate).has(Role::reserve));
  EXPECT_TRUE(Roles::of(Role::operate).has(Role::read));
  EXPECT_TRUE(Roles::of(Role::reserve).has(Role::read));
  EXPECT_FALSE(Roles::of(Role::operate).has(Role::link)) << "an operator runs no guests";
  EXPECT_FALSE(Roles::of(Role::link).has(Role::read));
  EXPECT_FALSE(Roles::all().and_in(Roles::of(Role::read)).has(Role::reserve));
}

TEST(AccessTest, UsersAndGroupsHaveTheRolesOfTheRulesThatNameThem) {
  const Access access = access_of({.link = users({kVmm}),
                                   .read = groups({kSocketGroup}),
                                   .reserve = users({kNova}),
                                   .operate = groups({kAdmins})});
  EXPECT_EQ(access.roles_of(kNova, {}), Roles::of(Role::reserve));
  EXPECT_EQ(access.roles_of(kAnna, {kSocketGroup}), Roles::of(Role::read));
  EXPECT_EQ(access.roles_of(kAnna, {kSocketGroup, kAdmins}), Roles::of(Role::operate));
  EXPECT_EQ(access.roles_of(kAnna, {}), Roles::none());
}

TEST(AccessTest, AUserThatIsNamedGetsNoMoreByItsGroups) {
  const Access access = access_of({.link = users({kVmm}), .operate = groups({kSocketGroup})});
  EXPECT_EQ(access.roles_of(kVmm, {kSocketGroup}), Roles::of(Role::link)) << "a VMM that was taken over";
  EXPECT_EQ(access.roles_of(kAnna, {kSocketGroup}), Roles::of(Role::operate));
}

TEST(AccessTest, WhatIsLeftOutIsForAllToLinkAndReadAndForTheDaemonsUserToChange) {
  for (const Access& access : {Access(), access_of({})}) {
    EXPECT_EQ(access.roles_of(kAnna, {}), Roles::of(Role::link).with(Role::read));
    EXPECT_EQ(access.roles_of(0, {}), Roles::all());
    EXPECT_EQ(access.roles_of(::geteuid(), {}), Roles::all());
  }
}

TEST(AccessTest, AUserOrGroupThatThisHostDoesNotHaveIsNamed) {
  const auto nobody = Access::of(AccessConfig{.read = AccessRule{.users = {"no-such-user"}, .groups = {}}});
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().message, "user 'no-such-user' (access) does not exist on this host");
  const auto nothing =
      Access::of(AccessConfig{.operate = AccessRule{.users = {}, .groups = {"no-such-group"}}});
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().message, "group 'no-such-group' (access) does not exist on this host");
  EXPECT_TRUE(Access::of(AccessConfig{.link = AccessRule{.users = {"root"}, .groups = {"root"}}}));
}

}  // namespace
}  // namespace balloon::daemon

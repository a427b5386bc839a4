// SPDX-License-Identifier: Apache-2.0
// That no field of what a file is made of is forgotten: as policy/recording/every_field.h for what is in it.
// A field that is added to one of these types makes this file fail to compile. Record it, and name it here
// and in the test that compares them.
#pragma once

#include <tuple>

#include "policy/recording/record.h"

namespace balloon::policy::recording {

inline auto fields_of(const Start& value) {
  const auto& [run, sequence, version] = value;
  return std::tie(run, sequence, version);
}
inline auto fields_of(const Tick& value) {
  const auto& [number, wall, snapshot, labels, plan] = value;
  return std::tie(number, wall, snapshot, labels, plan);
}

}  // namespace balloon::policy::recording

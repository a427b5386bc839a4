// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <system_error>

namespace balloon {

std::unexpected<Error> fail_errno(std::string doing, int error_number) {
  return std::unexpected(
      Error{std::move(doing) + ": " + std::generic_category().message(error_number), error_number});
}

}  // namespace balloon

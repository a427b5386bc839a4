// SPDX-License-Identifier: Apache-2.0
// Errors are values: a message for a person, built from the inside out with what was being done to what.
#pragma once

#include <expected>
#include <string>
#include <utility>

namespace balloon {

struct Error {
  std::string message;
  int number = 0;  ///< the errno value that caused it; 0: none did
};

template <typename T>
using Result = std::expected<T, Error>;

/// Makes the error side of any Result.
inline std::unexpected<Error> fail(std::string message) {
  return std::unexpected(Error{std::move(message), 0});
}

/// Puts what was being done in front of why it failed: "doing: cause".
inline std::unexpected<Error> fail(std::string doing, const Error& cause) {
  return std::unexpected(Error{std::move(doing) + ": " + cause.message, cause.number});
}

/// `doing` followed by the text of an errno value.
std::unexpected<Error> fail_errno(std::string doing, int error_number);

}  // namespace balloon

/// Evaluates a Result-returning expression; on error returns it from the enclosing function.
#define BALLOON_TRY(expression)                                                                             \
  do {                                                                                                      \
    if (auto try_result = (expression); !try_result) return std::unexpected(std::move(try_result.error())); \
  } while (false)

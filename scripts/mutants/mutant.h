// SPDX-License-Identifier: Apache-2.0
// Written into a copy of the code by scripts/mutate.sh: chooses one of the changes that are built into a
// program.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

// A change may leave something unused or compare what can never be equal: that is no reason not to build it.
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Waddress"
#pragma GCC diagnostic ignored "-Wbool-compare"
#pragma GCC diagnostic ignored "-Wbool-operation"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wdangling-else"
#pragma GCC diagnostic ignored "-Wempty-body"
#pragma GCC diagnostic ignored "-Wint-in-bool-context"
#pragma GCC diagnostic ignored "-Wlogical-not-parentheses"
#pragma GCC diagnostic ignored "-Woverflow"
#pragma GCC diagnostic ignored "-Wparentheses"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wreturn-type"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wswitch"
#pragma GCC diagnostic ignored "-Wtautological-compare"
#pragma GCC diagnostic ignored "-Wtype-limits"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-value"
#pragma GCC diagnostic ignored "-Wunused-variable"
#endif

namespace mutants {

inline int chosen() {
  static const int number = [] {
    const char* const text = std::getenv("MUTANT");
    return text == nullptr ? -1 : std::atoi(text);
  }();
  return number;
}

/// With MUTANT_TRACE set, each change that the program came to leaves a byte at its place in that file.
inline int trace() {
  static const int file = [] {
    const char* const path = std::getenv("MUTANT_TRACE");
    return path == nullptr ? -1 : ::open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  }();
  return file;
}

template <int number>
bool is_chosen() {
  static const bool traced = trace() >= 0 && ::pwrite(trace(), "1", 1, number) == 1;
  (void)traced;
  return chosen() == number;
}

}  // namespace mutants

#define MUTANT(number) (::mutants::is_chosen<number>())

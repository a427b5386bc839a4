// Written into a copy of the code by scripts/mutate.sh: chooses one of the changes that are built into a
// program.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

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

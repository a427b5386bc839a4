// SPDX-License-Identifier: Apache-2.0
// Mutexes whose fields and functions say which of them they need: clang's thread-safety annotations, by the
// names that its documentation gives them (clang.llvm.org/docs/ThreadSafetyAnalysis.html).
// scripts/thread-safety.sh has clang check them; for GCC they are nothing, and a lock is the standard's.
#pragma once

#include <mutex>

#ifdef __clang__
#define BALLOON_ANNOTATE(...) __attribute__((__VA_ARGS__))
#else
#define BALLOON_ANNOTATE(...)
#endif

// Of fields: the value, or what it points to, is used with the mutex held. Abseil, which comes with gRPC's
// headers, has some of these words already, and means the same.
#ifndef GUARDED_BY
#define GUARDED_BY(...) BALLOON_ANNOTATE(guarded_by(__VA_ARGS__))
#define PT_GUARDED_BY(...) BALLOON_ANNOTATE(pt_guarded_by(__VA_ARGS__))
#endif
// Of functions (a lambda's stand behind its parameters): called with the mutex held, or without it.
#define REQUIRES(...) BALLOON_ANNOTATE(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) BALLOON_ANNOTATE(locks_excluded(__VA_ARGS__))
// Of a function that the checker cannot follow. Why it is right stands beside it.
#ifndef NO_THREAD_SAFETY_ANALYSIS
#define NO_THREAD_SAFETY_ANALYSIS BALLOON_ANNOTATE(no_thread_safety_analysis)
#endif
// Of mutexes and locks themselves.
#define CAPABILITY(...) BALLOON_ANNOTATE(capability(__VA_ARGS__))
#define SCOPED_CAPABILITY BALLOON_ANNOTATE(scoped_lockable)
#define ACQUIRE(...) BALLOON_ANNOTATE(acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) BALLOON_ANNOTATE(try_acquire_capability(__VA_ARGS__))
#define RELEASE(...) BALLOON_ANNOTATE(release_capability(__VA_ARGS__))
#define RETURN_CAPABILITY(...) BALLOON_ANNOTATE(lock_returned(__VA_ARGS__))

namespace balloon {

/// std::mutex.
class CAPABILITY("mutex") Mutex {
 public:
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }

 private:
  friend class UniqueLock;
  std::mutex mutex_;
};

/// std::lock_guard, of any mutex that is annotated.
template <typename AnyMutex>
class [[nodiscard]] SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(AnyMutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  AnyMutex& mutex_;
};

/// std::unique_lock: can let go and take again, and a condition variable waits with it.
class [[nodiscard]] SCOPED_CAPABILITY UniqueLock {
 public:
  explicit UniqueLock(Mutex& mutex) ACQUIRE(mutex) : lock_(mutex.mutex_) {}
  ~UniqueLock() RELEASE() {}
  UniqueLock(const UniqueLock&) = delete;
  UniqueLock& operator=(const UniqueLock&) = delete;

  void lock() ACQUIRE() { lock_.lock(); }
  void unlock() RELEASE() { lock_.unlock(); }
  /// For the wait of a condition variable, whose condition is a lambda that REQUIRES the mutex.
  std::unique_lock<std::mutex>& standard() { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace balloon

# SPDX-License-Identifier: Apache-2.0
"""scripts/thread-safety.sh refuses what touches a guarded field without its mutex, and no mutex guards nothing."""
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("base", "policy", "vmm", "balloond")
# What has a mutex of the standard's, and why.
LEFT = {
    "base/log.cc": "spdlog's sinks are made for it",
    "base/mutex.h": "it is what the annotated one is made of",
    "vmm/bus.h": "many read at once",
    "vmm/bus.cc": "many read at once",
    "vmm/machine/guest.h": "operation_ guards no field: it is held for as long as one of a machine's operations takes",
    "vmm/machine/guest.cc": "operation_ is tried",
}
# Guards no field, but that one thread at a time joins another.
NO_FIELD = [("vmm/event_loop.cc", "join_mutex")]
STANDARD = re.compile(r"std::(?:mutex|recursive_mutex|shared_mutex|lock_guard|unique_lock|scoped_lock|shared_lock)\b")
MUTEX = re.compile(r"^ +(?:mutable )?(?:Mutex|FairMutex) (\w+);", re.MULTILINE)

SOURCE = """#include <condition_variable>
#include "base/mutex.h"
#include "vmm/virtio/device.h"
using namespace balloon;
class Count {
 public:
  void add() { const MutexLock lock(mutex_); ++value_; }
  void add_without() { ++value_; }  // refused
  void add_by_another() { const MutexLock lock(other_); ++value_; }  // refused
  void add_needed() REQUIRES(mutex_) { ++value_; }
  void call() { const MutexLock lock(mutex_); add_needed(); }
  void call_without() { add_needed(); }  // refused
  void add_alone() EXCLUDES(mutex_) { add(); }
  void call_with() { const MutexLock lock(mutex_); add_alone(); }  // refused
  void take_twice() { const MutexLock lock(mutex_); const MutexLock again(mutex_); }  // refused
  void wait() { UniqueLock lock(mutex_); changed_.wait(lock.standard(), [this]() REQUIRES(mutex_) { return value_ > 0; }); }
  void wait_unsaid() { UniqueLock lock(mutex_); changed_.wait(lock.standard(), [this] { return value_ > 0; }); }  // refused
  void let_go_and_take() { UniqueLock lock(mutex_); lock.unlock(); lock.lock(); ++value_; }
  void let_go() { UniqueLock lock(mutex_); lock.unlock(); ++value_; }  // refused
  int through() const { const MutexLock lock(mutex_); return *pointer_; }
  int through_without() const { return *pointer_; }  // refused
 private:
  mutable Mutex mutex_;
  Mutex other_;
  std::condition_variable changed_;
  int value_ GUARDED_BY(mutex_) = 0;
  int* pointer_ PT_GUARDED_BY(mutex_) = nullptr;
};
void reset(vmm::VirtioDevice& device) { const MutexLock lock(device.mutex()); device.reset(); }
void try_reset(vmm::VirtioDevice& device) { if (device.mutex().try_lock()) { device.reset(); device.mutex().unlock(); } }
void reset_without(vmm::VirtioDevice& device) { device.reset(); }  // refused
void reset_by_another(vmm::VirtioDevice& device, vmm::VirtioDevice& other) { const MutexLock lock(other.mutex()); device.reset(); }  // refused
"""


class ThreadSafetyTest(unittest.TestCase):
    def test_what_lacks_its_mutex_is_refused_and_nothing_else(self):
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "source.cc"
            file.write_text(SOURCE)
            done = subprocess.run([ROOT / "scripts/thread-safety.sh", file], capture_output=True, text=True)
        refused = {int(line) for line in re.findall(rf"^{re.escape(str(file))}:(\d+):\d+: error: .*thread-safety", done.stderr, re.MULTILINE)}
        wanted = {number for number, line in enumerate(SOURCE.splitlines(), 1) if line.endswith("// refused")}
        self.assertEqual(refused, wanted, done.stderr)
        self.assertNotEqual(done.returncode, 0)

    def test_all_mutexes_are_annotated_and_each_says_what_it_guards(self):
        files = {str(file.relative_to(ROOT)): file.read_text() for room in ROOMS for file in (ROOT / room).rglob("*") if file.suffix in (".h", ".cc")}
        code = {name: re.sub(r"//.*", "", text) for name, text in files.items()}
        self.assertEqual({name for name, text in code.items() if STANDARD.search(text)}, set(LEFT))
        mutexes = [(name, mutex) for name, text in code.items() for mutex in MUTEX.findall(text)]
        self.assertGreater(len(mutexes), 40, "the mutexes are not where this test looks for them")
        said = re.compile(r"(?:GUARDED_BY|REQUIRES|EXCLUDES|RETURN_CAPABILITY)\((?:\w+->)?(\w+)\)")
        self.assertEqual([(name, mutex) for name, mutex in mutexes if mutex not in said.findall(code[name])], NO_FIELD)


if __name__ == "__main__":
    unittest.main()

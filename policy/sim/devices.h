// SPDX-License-Identifier: Apache-2.0
// Swap devices and disks, by the data sheets of typical ones.
#pragma once

#include <chrono>
#include <limits>

#include "base/pages.h"
#include "policy/types.h"

namespace balloon::policy::sim {

/// A swap device. Latency is of one request, bandwidth of reads and writes together.
struct SwapDevice {
  Bytes size{};
  Time latency = std::chrono::microseconds(100);
  double bandwidth = 1.5 * (1ULL << 30);  ///< bytes a second
  /// A written byte takes as much of the bandwidth as so many that are read.
  double write_factor = 1;
  /// Requests that it serves a second, whoever asks.
  double requests = std::numeric_limits<double>::infinity();
  double at_once = 4;  ///< requests of one guest that it serves at the same time
  /// What is swapped to it takes up so much memory, as a ratio. 0: none; that is what makes a device zram.
  double memory_ratio = 0;
  double cpu_out = 0;  ///< CPU seconds a page that is written
  double cpu_in = 0;   ///< CPU seconds a page that is read

  /// Intel P4500, 2 TB: 4 KiB at random are read within 85 µs, 490,000 times a second; 3.2 GB/s are read
  /// and 1.05 written (Lenovo's product guide of the drive, 4XB7A08539).
  static SwapDevice nvme(Bytes size) {
    return {size, std::chrono::microseconds(85), 3.2e9, 3.2 / 1.05, 490e3};
  }
  /// HGST Ultrastar 7K4000: a seek takes 8.2 ms, half a turn at 7,200 a minute 4.17 ms (its specification,
  /// 4.4.1). 171 MB/s in order is a guess: its rate stands in no source that could be read. One arm serves
  /// one request at a time; pages are written in order.
  static SwapDevice hdd(Bytes size) {
    return {size, std::chrono::microseconds(12370), 171e6, 1, 1 / 12.37e-3, 1};
  }
  /// zram in memory; its figures are measured (tests/calibration/linux-facts.json, zram). A page in takes as
  /// long as its CPU.
  static SwapDevice zram(Bytes size);

  /// The same without what they cost beyond latency and bandwidth, in the round numbers of generator 1.
  static SwapDevice plain_nvme(Bytes size) {
    return {size, std::chrono::microseconds(100), 1.5 * (1ULL << 30)};
  }
  static SwapDevice plain_zram(Bytes size) {
    return {size, std::chrono::microseconds(6), 2.0 * (1ULL << 30)};
  }
  static SwapDevice plain_hdd(Bytes size) {
    return {size, std::chrono::milliseconds(10), 100.0 * (1ULL << 20)};
  }
};

/// zram by what was measured: bytes of memory a byte swapped, CPU seconds a page.
inline constexpr double kZramMemoryRatio = 0.365;
inline constexpr double kZramCpuOut = 8.7e-6;
inline constexpr double kZramCpuIn = 4.8e-6;
/// Pages that are compressed at the same time, each on a CPU of its own.
inline constexpr double kZramCpus = 4;

inline SwapDevice SwapDevice::zram(Bytes size) {
  SwapDevice device{size, Time(static_cast<std::int64_t>(kZramCpuIn * 1e9)),
                    kZramCpus * static_cast<double>(kPageSize) / kZramCpuIn};
  device.write_factor = kZramCpuOut / kZramCpuIn;
  device.memory_ratio = kZramMemoryRatio;
  device.cpu_out = kZramCpuOut;
  device.cpu_in = kZramCpuIn;
  return device;
}

/// A guest's disk, where its files are.
struct Disk {
  double bandwidth = 0;  ///< bytes a second; 0: the machine's (Speeds::file_read)
  Time latency = std::chrono::microseconds(100);
  double at_once = 4;  ///< requests of one guest that it serves at the same time

  static Disk nvme() { return {3.2e9, std::chrono::microseconds(85), 4}; }    ///< as SwapDevice::nvme
  static Disk hdd() { return {171e6, std::chrono::microseconds(12370), 1}; }  ///< as SwapDevice::hdd
};

}  // namespace balloon::policy::sim

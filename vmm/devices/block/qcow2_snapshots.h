// SPDX-License-Identifier: Apache-2.0
// Where the tables of a qcow2 image's internal snapshots lie: this VMM keeps them as they are.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "vmm/devices/block/qcow2_file.h"
#include "vmm/devices/block/qcow2_format.h"

namespace balloon::vmm {

/// The clusters of the snapshot table and of each snapshot's L1 table. Fails when they cannot be.
Result<std::vector<Qcow2File::Range>> snapshot_tables(const DiskFile& file, const Qcow2Header& header);

}  // namespace balloon::vmm

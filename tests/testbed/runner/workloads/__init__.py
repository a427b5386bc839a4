# SPDX-License-Identifier: Apache-2.0
"""Real programs in guests: mixes of them, run with one controller of balloons or another (scripts/bench.sh workloads)."""

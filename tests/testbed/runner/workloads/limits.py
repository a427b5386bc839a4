# SPDX-License-Identifier: Apache-2.0
"""What a mix may ask for: beyond this nothing boots, or the emulated host cannot give it."""

MIB = 1 << 20
GUESTS_MAX = 16
VCPUS_MAX = 8  # all run on one CPU of the emulated host (runner/guest.py)
WEIGHT_MAX = 10_000  # config/schema/policy.schema.json
# A Debian guest's kernel, initramfs and programs at rest, and some room for a program: less does not come up.
GUEST_MIN_MIB = 128
DEFAULT_MINIMUM_MIB = 192
# The emulated host's kernel, its init, Python, and a guest.
HOST_MIN_MIB = 512
HOST_MAX_MIB = 64 * 1024
SWAP_MAX_MIB = 8 * 1024  # guests' own disks lie on one of 10 GiB (builder/outer_image.py: SCRATCH_MIB)
DATA_MIB = 1024  # builder/guest_image.py
SECONDS_MAX = 24 * 3600

# SPDX-License-Identifier: Apache-2.0
"""Builds and boots the testbed: a KVM host (QEMU with emulated AMD SVM) with Debian kernels and our programs in it."""

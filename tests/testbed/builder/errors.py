# SPDX-License-Identifier: Apache-2.0
"""Failures that a person is told about in one line."""


class TestbedError(Exception):
    """What could not be done, to what, and what would help."""

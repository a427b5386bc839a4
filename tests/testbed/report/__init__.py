# SPDX-License-Identifier: Apache-2.0
"""Makes figures, checks, tables and demo.json of the events that a scenario run sends."""

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The short form of tests/stress/run for `make check`: 60 seconds in all, a seed
# that is the same each time (the long run takes a new one).
# time: 400
# paging
exec bash "$(dirname "$0")/run" --seconds 60 --seed 1 --max 32M --recipe 0

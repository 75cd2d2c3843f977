#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Every guard against a race is missed when it is gone.
# time: 300
exec "$QUIRE_ROOT/dev/mutants"

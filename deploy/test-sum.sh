#!/usr/bin/env bash
# The sum of all `test result:` lines in a log of cargo test; fails when something failed or no test ran at all.
set -euo pipefail
awk '
  { gsub(/\033\[[0-9;]*m/, "") }
  /^test result:/ { passed += $4; failed += $6; skipped += $8 }
  END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit !(passed > 0 && failed == 0) }
' "$1"

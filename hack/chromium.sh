#!/usr/bin/env bash
# Sees to it that there is a Chromium for the test of the page: installs Debian's where there is none, if we are root on
# Debian. Ends non-zero, with a sentence, where there is none then.
set -euo pipefail
if ! command -v chromium >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "there is no chromium on this machine, and it can be installed by root on Debian alone" >&2
    exit 1
  fi
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  # With a font, or text would be boxes.
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-dejavu-core; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    exit 1
  fi
fi

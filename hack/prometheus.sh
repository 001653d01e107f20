#!/usr/bin/env bash
# Puts Debian's prometheus and promtool into bin/. The package is unpacked, not installed: installing it starts a server.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for tool in apt-get dpkg-deb; do
  command -v "$tool" >/dev/null || { echo "hack/prometheus.sh: no $tool here: prometheus is taken from Debian's package; on another system put prometheus and promtool into bin/" >&2; exit 1; }
done
# apt drops its rights to download, and its user must be able to write there.
chmod 755 "$work"
[ "$(id -u)" != 0 ] || chown _apt "$work"
download() { (cd "$work" && apt-get -qq download prometheus >/dev/null); }
# A fresh machine has no package lists yet.
download 2>/dev/null || { apt-get -qq update && download; }
dpkg-deb -x "$work"/prometheus_*.deb "$work/root"
mkdir -p bin
for program in prometheus promtool; do
  install -m 755 "$work/root/usr/bin/$program" "bin/.$program.new"
  mv "bin/.$program.new" "bin/$program"
done

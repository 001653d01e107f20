#!/usr/bin/env bash
# Measures on a lab of its own, and removes it afterwards. Debian's prometheus-blackbox-exporter is unpacked into a
# temporary folder; nothing is installed. KEEP_LAB=1 leaves the lab up.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${LAB_NAME:-bench}
work=$(mktemp -d)
leave() {
  rm -rf "$work"
  [ -n "${KEEP_LAB:-}" ] || bin/lab down --name "$name"
}
trap leave EXIT
trap 'exit 130' INT TERM

bin/lab up --name "$name"
hack/deploy.sh "$name"
go build -trimpath -o bin/bench ./test/bench

exporter=
private=(-o "Dir::State=$work/state" -o "Dir::Cache=$work/cache" -o "Dir::State::status=/var/lib/dpkg/status" -o "APT::Sandbox::User=root")
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,deb}
if (cd "$work/deb" && apt-get "${private[@]}" update -qq && apt-get "${private[@]}" download -qq prometheus-blackbox-exporter) >"$work/apt.log" 2>&1; then
  dpkg-deb -x "$work"/deb/*.deb "$work/exporter"
  exporter=$work/exporter/usr/bin/prometheus-blackbox-exporter
else
  echo "prometheus-blackbox-exporter cannot be had from Debian's packages here: $(tail -1 "$work/apt.log")"
fi
bin/lab exec --name "$name" -- bin/bench -exporter "$exporter" "$@"

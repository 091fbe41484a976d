#!/usr/bin/env bash
# System packages that some tests use and npm does not have: a browser, whose SwiftShader also serves as a GPU without
# hardware, and the loader that finds GPUs. For Debian and Ubuntu, as root; what is there already is left alone.
set -euo pipefail
packages=(chromium libvulkan1)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"

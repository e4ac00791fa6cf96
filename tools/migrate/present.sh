#!/bin/sh
# Goes before other scripts: leaves of the units "$@" those that the host has, and are not masked.
for unit; do
  shift
  if systemctl cat -- "$unit" > /dev/null 2>&1; then set -- "$@" "$unit"; fi
done

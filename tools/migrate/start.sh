#!/bin/sh
# Starts those of the units "$@" that are enabled.
for unit; do
  shift
  if systemctl --quiet is-enabled -- "$unit" 2> /dev/null; then set -- "$@" "$unit"; fi
done
systemctl start -- "$@"

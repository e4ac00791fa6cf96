#!/bin/sh
# Says `busy` with process and time, and ends, where an apply still runs here: one that was interrupted on the controller
# goes on. One inside a container of this host does not count.
# shellcheck disable=SC2013 # paths of processes have no spaces
for found in $(grep -szlx 'state[.]pkg' /proc/[0-9]*/cmdline); do
  process=${found%/cmdline}
  if [ "$(readlink "$process/ns/pid")" = "$(readlink /proc/self/ns/pid)" ]; then
    echo "busy ${process#/proc/} $(date -d "@$(stat -c %Y "$process")" +%T)"
    exit
  fi
done

#!/bin/sh
# Prints how many megabytes are free where the directory $1 is, or will be.
df --output=avail --block-size=M "$(while [ ! -e "$1" ]; do set -- "$(dirname "$1")"; done; echo "$1")" | tail -1

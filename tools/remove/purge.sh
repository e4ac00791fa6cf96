#!/bin/sh
# Purges the packages "$@" with their configuration; what they needed stays until the next `apt-get autoremove`.
DEBIAN_FRONTEND=noninteractive exec apt-get -qq -o DPkg::Lock::Timeout=300 purge -- "$@" > /dev/null

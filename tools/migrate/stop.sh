#!/bin/sh
# Stops the units "$@".
if [ $# -gt 0 ]; then systemctl stop -- "$@"; fi

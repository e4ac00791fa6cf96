#!/bin/sh
# What the beginning of a relay wants to know of its host: global addresses, one a line.
ip -o address show scope global | awk '{ sub("/.*", "", $4); print $4 }'

#!/bin/sh
# Lets the file $1 hold what comes on standard input, for root alone.
mkdir -p "$(dirname "$1")"
umask 077
cat > "$1.new" && mv "$1.new" "$1"

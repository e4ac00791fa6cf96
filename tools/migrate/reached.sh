#!/bin/sh
# Prints those of the addresses at which port $1 is reached; the addresses are the further arguments.
port=$1; shift
for address; do if timeout 3 bash -c ": > /dev/tcp/$address/$port" 2> /dev/null; then echo "$address"; fi; done

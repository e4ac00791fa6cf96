#!/bin/sh
# Prints how many bytes the newest backup of the relay $3 takes, and how many are free.
for tag in chatmail mail; do
  restic stats --json --mode restore-size --host "$3" --tag "$tag" latest 2> /dev/null || true
done | python3 -c 'import json, sys; print(sum(json.loads(line)["total_size"] for line in sys.stdin))'
df --output=avail --block-size=1 /var/lib | tail -1

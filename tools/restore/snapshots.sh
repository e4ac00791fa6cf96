#!/bin/sh
# Prints, as JSON, what the repository has.
exec restic --quiet snapshots --json

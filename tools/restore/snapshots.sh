#!/bin/sh
# Prints, as JSON, what the repository has.
restic snapshots --json

#!/bin/sh
# Runs rsync with the arguments "$@".
# One after the other: an rsync whose controller was interrupted may still be at work.
cd /run/chatmail-migrate && exec flock lock rsync "$@"

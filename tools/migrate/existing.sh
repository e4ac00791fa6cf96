#!/bin/sh
# Prints those of the paths "$@" that exist.
for path; do if [ -e "$path" ]; then echo "$path"; fi; done

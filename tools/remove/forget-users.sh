#!/bin/sh
# Deletes the users "$@", whose files are gone.
for user; do userdel -- "$user" || exit; done

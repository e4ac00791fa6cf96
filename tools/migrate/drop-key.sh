#!/bin/sh
# Removes the key that make-key.sh has made.
rm -f /run/chatmail-migrate/key*
